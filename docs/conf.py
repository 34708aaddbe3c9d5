"""The site: these pages, the notebooks as they are and an API reference from the docstrings."""

from importlib.metadata import version as installed

from docutils import nodes
from latex2mathml.converter import convert

project = "hwl"
author = "the hwl authors"
version = release = installed("hwl")

extensions = ["myst_nb", "autoapi.extension", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "hwl"
html_show_copyright = False
exclude_patterns = ["_build"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
# Notebooks are committed without outputs; runs leave theirs in run folders.
nb_execution_mode = "off"

html_math_renderer = "mathml"


def setup(app):
    """Formulas as MathML, as on the pages of runs: no script that a reader's browser must fetch."""

    def inline(writer, node):
        writer.body.append(convert(node.astext()))
        raise nodes.SkipNode

    def block(writer, node):
        writer.body.append(convert(node.astext(), display="block"))
        raise nodes.SkipNode

    app.add_html_math_renderer("mathml", (inline, None), (block, None))


# Read from the source, so that nothing heavy is imported.
autoapi_dirs = ["../hwl"]
autoapi_root = "api"
autoapi_options = ["members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_add_toctree_entry = False
autoapi_python_class_content = "class"
# Its resolver does not follow constants assigned two in a line; the pages have them all the same.
suppress_warnings = ["autoapi.python_import_resolution"]
