for (const place of document.querySelectorAll(".plot")) {
  const drawn = JSON.parse(place.parentElement.querySelector("script").textContent);
  // When a window changes its size plotly asks its place how high it is.
  place.style.height = `${drawn.layout.height ?? 450}px`;
  Plotly.newPlot(place, drawn.data, drawn.layout, drawn.config);
}
