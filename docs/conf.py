"""The site: these pages, the notebooks as they are and an API reference from the docstrings."""

from importlib.metadata import version as installed

project = "hwl"
author = "the hwl authors"
version = release = installed("hwl")

extensions = ["myst_nb", "autoapi.extension", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
html_theme = "furo"
html_title = "hwl"
html_show_copyright = False
exclude_patterns = ["_build"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
# Notebooks are committed without outputs; runs leave theirs in run folders.
nb_execution_mode = "off"

# Read from the source, so that nothing heavy is imported.
autoapi_dirs = ["../hwl"]
autoapi_root = "api"
autoapi_options = ["members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_add_toctree_entry = False
autoapi_python_class_content = "class"
# Its resolver does not follow constants assigned two in a line; the pages have them all the same.
suppress_warnings = ["autoapi.python_import_resolution"]
