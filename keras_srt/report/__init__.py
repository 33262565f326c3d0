"""Tables, figures, HTML report and model card of an evaluation; imports no TensorFlow."""

from keras_srt.report.deployment_section import deployment_table
from keras_srt.report.example_figure import Examples
from keras_srt.report.figure_files import write_figures, written_figures
from keras_srt.report.html_page import write_html, write_pages
from keras_srt.report.model_card import write_card
from keras_srt.report.robustbench import robustbench_entry
from keras_srt.report.run_comparison import comparison_lines, write_comparison_figure
from keras_srt.report.terminal_table import terminal_table

__all__ = [
    "Examples",
    "comparison_lines",
    "deployment_table",
    "robustbench_entry",
    "terminal_table",
    "write_card",
    "write_comparison_figure",
    "write_figures",
    "write_html",
    "write_pages",
    "written_figures",
]
