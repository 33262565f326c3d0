"""How figures look: colors and Matplotlib's settings."""

# Okabe and Ito's colors, told apart with the common kinds of color blindness.
BLUE, SKY, VERMILION, GREEN = "#0072B2", "#7FB2D6", "#C04A00", "#00795A"
PURPLE, ORANGE = "#A6518A", "#D18A00"
INK, GREY = "#222222", "#666666"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#999999",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
