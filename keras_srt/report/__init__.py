"""Tables, figures and a web page of an evaluation; imports no TensorFlow."""

from keras_srt.report.deployment import deployment_table
from keras_srt.report.figures import Examples, write_figures, written_figures
from keras_srt.report.page import write_html
from keras_srt.report.table import terminal_table

__all__ = [
    "Examples",
    "deployment_table",
    "terminal_table",
    "write_figures",
    "write_html",
    "written_figures",
]
