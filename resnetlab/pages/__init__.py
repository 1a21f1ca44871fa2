"""One HTML file that asks no network: reports, lessons, executed notebooks; and exports."""
