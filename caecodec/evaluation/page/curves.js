// The curves, drawn by uPlot: a plot for each metric, whose legend has the nearest point of each curve.
{
  const { charts } = JSON.parse(document.getElementById("data").textContent);
  const COLOURS = 8;
  const STYLES = { "caecodec": { width: 3 }, "reference codec": { width: 1.5 }, "published": { width: 1.5, dash: [6, 4] } };
  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;

  // Canvases need colours without var() and light-dark(), as the browser resolves them for the theme of the moment.
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };

  const series = (curve, number) => ({
    label: curve.name,
    stroke: () => colour(`curve-${(number % COLOURS) + 1}`),
    points: { show: true, size: 7, fill: () => colour(`curve-${(number % COLOURS) + 1}`) },
    value: (plot, db, place, index) => {
      const point = index === null ? undefined : curve.points.find(([bpp]) => bpp === plot.data[0][index]);
      return point ? `${point[2]}: ${point[1].toFixed(2)} dB at ${point[0].toFixed(3)} bpp` : " ";
    },
    ...STYLES[curve.kind],
  });

  const axis = (label) => ({
    label,
    stroke: () => colour("text"),
    grid: { stroke: () => colour("line"), width: 1 },
    ticks: { stroke: () => colour("line"), width: 1 },
  });

  const draw = (chart, figure) => {
    const curves = chart.curves.filter((curve) => curve.points.length);
    const [right, low, high] = chart.range;
    const zoomed = (whole) => (plot, min, max) => (plot.select.width > 0 ? [min, max] : whole);
    const height = () => Math.min(400, Math.max(260, figure.clientWidth * 0.62));
    const plot = new uPlot(
      {
        width: figure.clientWidth,
        height: height(),
        scales: { x: { time: false, range: zoomed([0, right]) }, y: { range: zoomed([low, high]) } },
        series: [{ label: "bits per pixel", value: (plot, bpp) => (bpp === null ? " " : bpp.toFixed(3)) }, ...curves.map(series)],
        axes: [axis("bits per pixel"), { ...axis(chart.label), size: 60 }],
        cursor: { focus: { prox: 40 }, hover: { prox: null, skip: [undefined, null] }, drag: { x: true, y: true, uni: 20 } },
        focus: { alpha: 0.25 },
        legend: { markers: { stroke: (plot, place) => `var(--curve-${((place - 1) % COLOURS) + 1})` } },
      },
      uPlot.join(curves.map((curve) => [curve.points.map(([bpp]) => bpp), curve.points.map(([, db]) => db)])),
      figure,
    );
    new ResizeObserver(() => plot.setSize({ width: figure.clientWidth, height: height() })).observe(figure);
    document.addEventListener("theme", () => plot.redraw());
    plot.root.querySelectorAll(".u-legend tr.u-series").forEach((row, place) => {
      if (place === 0) return; // the rates
      const name = row.querySelector("th");
      name.tabIndex = 0;
      name.setAttribute("role", "button");
      name.setAttribute("aria-pressed", "true");
      name.addEventListener("click", () => name.setAttribute("aria-pressed", plot.series[place].show));
      name.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        name.click();
      });
    });
    const area = plot.over;
    area.tabIndex = 0;
    area.setAttribute("role", "img");
    area.setAttribute("aria-label", `${chart.label} against bits per pixel of ${curves.map((curve) => curve.name).join(", ")}`);
    area.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const index = Math.min(Math.max((plot.cursor.idx ?? -1) + step, 0), plot.data[0].length - 1);
      plot.setCursor({ left: plot.valToPos(plot.data[0][index], "x"), top: plot.cursor.top > 0 ? plot.cursor.top : 1 });
    });
  };

  if (charts.length) {
    document.getElementById("curves").hidden = false;
    for (const chart of charts) {
      const figure = document.getElementById("charts").appendChild(document.createElement("figure"));
      figure.appendChild(document.createElement("figcaption")).textContent = chart.label;
      draw(chart, figure);
    }
  }
}
