// Draws the curves of a chart from left to right, on axes that stand still, and at the end the whole.
function reveal(chart, figure, data, current) {
  const layout = { ...figure.layout };
  for (const [name, axis] of Object.entries(chart._fullLayout))
    if (/^[xy]axis\d*$/.test(name)) layout[name] = { ...layout[name], range: [...axis.range], autorange: false };
  const whole = chart._fullData.map((trace) => ({ x: [...(trace.x ?? [])], y: [...(trace.y ?? [])] }));
  const places = whole.map(({ x }) => x.map((value, index) => (typeof value === "number" ? value : index)));
  const numbers = places.flat();
  const low = Math.min(...numbers), high = Math.max(...numbers), began = performance.now();
  const draw = (now) => {
    if (!current()) return;
    const share = (now - began) / 1000 / data.seconds;
    if (share >= 1) {
      window.Plotly.react(chart, figure.data, figure.layout);
      chart.dataset.revealed = "true";
      return;
    }
    const to = low + (high - low) * share;
    const traces = figure.data.map((trace, at) => {
      if (trace.fill) return { ...trace, visible: false };
      if (trace.type === "bar") return { ...trace, y: whole[at].y.map((value) => value * share), text: [] };
      if (trace.type !== "scatter") return trace;
      const { x, y } = whole[at], x_seen = [], y_seen = [];
      places[at].forEach((place, index) => {
        if (place <= to) {
          x_seen.push(x[index]);
          y_seen.push(y[index]);
        } else if (index && places[at][index - 1] <= to && (trace.mode ?? "lines") !== "markers" && typeof x[index] === "number") {
          const part = (to - places[at][index - 1]) / (place - places[at][index - 1]);
          x_seen.push(to);
          y_seen.push(y[index - 1] + (y[index] - y[index - 1]) * part);
        }
      });
      return { ...trace, x: x_seen, y: y_seen, customdata: undefined, text: undefined };
    });
    window.Plotly.react(chart, traces, layout);
    requestAnimationFrame(draw);
  };
  requestAnimationFrame(draw);
}

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
  figure.layout.uirevision = data.same;
  chart.setAttribute("role", "figure");
  chart.setAttribute("aria-label", data.alt);
  chart.style.height = `${figure.layout.height}px`;
  const turn = (chart.turn = (chart.turn || 0) + 1);
  const draw = () => {
    if (turn !== chart.turn) return; // newer data have come while the library was on its way
    if (!window.Plotly) {
      setTimeout(draw, 50);
      return;
    }
    const { frames, layout } = figure;
    // Another configuration, such as the name of the file that the camera saves, would make Plotly
    // begin anew and forget the zoom.
    window.Plotly.react(chart, { data: figure.data, layout, frames, config: chart.drawn ? undefined : data.config });
    chart._context.toImageButtonOptions = data.config.toImageButtonOptions ?? {};
    // Points alone have no way along which to be drawn: they stand there at once.
    const drawn = figure.data.some((trace) => trace.type === "bar" || (trace.mode ?? "lines").includes("lines"));
    if (data.seconds && drawn && !chart.drawn && !matchMedia("(prefers-reduced-motion: reduce)").matches)
      reveal(chart, figure, data, () => turn === chart.turn && chart.isConnected);
    chart.drawn = true;
  };
  draw();
}
