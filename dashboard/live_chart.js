// One chart of a training that goes on: new data are drawn into the same chart, so that the reader's
// zoom, hidden curves and open tooltip stay. Streamlit's own chart element is made anew for new data.
export default function (component) {
  const { data, parentElement } = component;
  let chart = parentElement.querySelector(".live-chart");
  if (!chart) {
    chart = document.createElement("div");
    chart.className = "live-chart";
    parentElement.appendChild(chart);
    // Plotly listens to the window only; the sidebar changes the width too.
    new ResizeObserver(() => {
      if (chart.drawn && chart.isConnected) window.Plotly.Plots.resize(chart);
    }).observe(chart);
  }
  const figure = JSON.parse(data.figure);
  // With the same word as before, Plotly keeps what the reader changed.
  figure.layout.uirevision = data.study;
  chart.style.height = `${figure.layout.height}px`;
  const turn = (chart.turn = (chart.turn || 0) + 1);
  const draw = () => {
    if (turn !== chart.turn) return; // newer data have come while the library was on its way
    if (!window.Plotly) {
      setTimeout(draw, 50);
      return;
    }
    window.Plotly.react(chart, figure.data, figure.layout, data.config);
    chart.drawn = true;
  };
  draw();
}
