for (const place of document.querySelectorAll(".plot")) {
  const drawn = JSON.parse(place.parentElement.querySelector("script").textContent);
  Plotly.newPlot(place, drawn.data, drawn.layout, drawn.config);
}
