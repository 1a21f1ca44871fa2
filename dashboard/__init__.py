"""The dashboard: reads what lies in the results folder and draws it. It never imports torch."""
