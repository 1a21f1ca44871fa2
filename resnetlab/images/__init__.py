"""The images: data sets small and large, what a step sees of them, a folder looked at beforehand."""
