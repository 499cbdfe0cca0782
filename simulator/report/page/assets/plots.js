"use strict";
// Chooses which of the page's figures are drawn, and draws them when they come into view.
const Report = (() => {
  const MOST_SHOWN = 36; // that can be told apart
  const MOST_BARS = 4;
  const PAPER_PX = 690; // A4 without its margins
  const id = (name) => document.getElementById(name);
  const data = JSON.parse(id("data").textContent);
  const boxes = [...document.querySelectorAll("#variants input")];
  const narrow = window.innerWidth < 640;
  const touch = window.matchMedia("(pointer: coarse)").matches;
  data.template.layout.font.family = getComputedStyle(document.body).fontFamily;

  function plot(name, traces, layout) {
    const tools = {
      displaylogo: false, responsive: true, displayModeBar: !touch, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: name }, showSendToCloud: false, plotlyServerURL: "",
    };
    Plotly.react(id(name), traces, { template: data.template, dragmode: touch ? false : "zoom", ...layout }, tools);
  }

  const shown = () => boxes.filter((box) => box.checked).map((box) => Number(box.value)).sort((a, b) => a - b);
  function drawCurves() {
    const key = id("x-axis").value;
    const { title, curves } = data.axes[key];
    const name = id("y-axis").value;
    const scaled = (values) => (name === "loss" ? values.map(Math.log) : values);
    const groups = shown().filter((group) => curves[group]);
    const traces = groups.flatMap((group) => {
      const { x, y, low, high } = curves[group];
      const look = data.looks[group];
      const { color } = look.line;
      const plain = { type: "scatter", mode: "lines", hoverinfo: "skip", line: { width: 0, color } };
      const made = [];
      if (low && id("bands").checked) made.push({ ...plain, x, y: scaled(low) }, { ...plain, x, y: scaled(high), fill: "tonexty", fillcolor: `${color}2e` });
      if (id("each-run").checked || !y) {
        for (const run of data.runs[group]) made.push({ ...plain, x: run.x[key], y: scaled(run.y), line: { width: 0.8, color }, opacity: 0.6 });
      }
      if (y) {
        const mode = x.length > 60 ? "lines" : "lines+markers";
        const hovertemplate = `<b>%{fullData.name}</b><br>${title}: %{x:,.4~r}<br>${name} %{y:.4g}<extra></extra>`;
        made.push({ ...look, type: "scatter", mode, x, y: scaled(y), hovertemplate });
      }
      return made;
    });
    plot("curves-plot", traces, {
      height: narrow ? 380 : 470,
      xaxis: { title: { text: title }, type: id("log-x").checked ? "log" : "linear" },
      yaxis: { title: { text: `validation ${name}` }, type: id("log-y").checked ? "log" : "linear", nticks: 9 },
      shapes: data.levels.map((line) => ({ ...line, y0: scaled([line.y0])[0], y1: scaled([line.y1])[0] })),
    });
    id("curves-note").textContent = [data.note, ...groups.map((group) => curves[group].note)].filter(Boolean).join(" ");
  }

  function drawStaleness() {
    const groups = shown().filter((group) => data.staleness[group]);
    const traces = groups.map((group) => {
      const look = data.looks[group];
      const style = groups.length > MOST_BARS ? { type: "scatter", mode: "lines+markers" } : { type: "bar", marker: { color: look.line.color } };
      const hovertemplate = "<b>%{fullData.name}</b><br>staleness %{customdata[0]}<br>%{y:.1f} % of the rounds, %{customdata[1]}<extra></extra>";
      return { ...look, ...style, ...data.staleness[group], hovertemplate };
    });
    plot("staleness-plot", traces, {
      height: 340, barmode: "group", bargap: 0.2,
      xaxis: { title: { text: "staleness (server updates)" }, zeroline: false },
      yaxis: { title: { text: "share of the rounds (%)" }, rangemode: "tozero" },
    });
    const names = groups.map((group) => boxes.find((box) => Number(box.value) === group).nextSibling.cloneNode(true));
    id("staleness-legend").replaceChildren(...names);
  }

  function drawOffers() {
    const key = id("offers-y").value;
    const label = id("offers-y").selectedOptions[0].textContent;
    const traces = shown().filter((group) => data.offers[group]).map((group) => {
      const hovertemplate = `<b>%{fullData.name}</b><br>%{x:,.4~r} min<br>${label} %{y:.3g}<extra></extra>`;
      return { ...data.looks[group], type: "scatter", mode: "lines+markers", x: data.offers[group].x, y: data.offers[group][key], hovertemplate };
    });
    plot("offers-plot", traces, {
      height: 340, xaxis: { title: { text: "simulated time (min)" } }, yaxis: { title: { text: label } },
    });
  }

  function drawRun(name) {
    const { traces, layout, note } = data.details[id("run").value][name];
    plot(name, traces, { ...layout, height: layout.height + (narrow && layout.showlegend ? 80 : 0) }); // of a legend in lines
    if (note !== undefined) id(name.replace("plot", "note")).textContent = note;
  }

  const ofRun = ["timeline-plot", "shares-plot", "by-worker-plot"];
  const draws = { "curves-plot": drawCurves, "staleness-plot": drawStaleness, "offers-plot": drawOffers };
  for (const name of ofRun) draws[name] = () => drawRun(name);
  for (const name of Object.keys(draws)) if (id(name).textContent) delete draws[name]; // says why it is not there
  const drawn = new Set();
  function draw(name) {
    drawn.add(name);
    draws[name]();
  }
  const redraw = (...names) => names.filter((name) => drawn.has(name)).forEach(draw);
  const drawAll = () => Object.keys(draws).filter((name) => !drawn.has(name)).forEach(draw);
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting && draws[target.id] && !drawn.has(target.id)) draw(target.id);
    requestAnimationFrame(() => setTimeout(() => (document.documentElement.dataset.ready ??= performance.now().toFixed(0))));
  }, { rootMargin: "300px" });
  Object.keys(draws).forEach((name) => observer.observe(id(name)));
  observer.observe(document.body); // there may be no plot at all

  function setShown() {
    id("shown-count").textContent = `${shown().length} of ${boxes.length} shown`;
    redraw("curves-plot", "staleness-plot", "offers-plot");
  }
  function check(wanted) {
    const found = boxes.filter((box) => !box.parentElement.hidden).slice(0, wanted);
    boxes.forEach((box) => (box.checked = found.includes(box)));
    setShown();
  }
  id("variants").addEventListener("change", setShown);
  id("show-all").addEventListener("click", () => check(MOST_SHOWN));
  id("show-none").addEventListener("click", () => check(0));
  id("show-all").textContent = boxes.length > MOST_SHOWN ? `first ${MOST_SHOWN}` : "all";
  id("find-variant").addEventListener("input", () => {
    const wanted = id("find-variant").value.toLowerCase();
    for (const box of boxes) box.parentElement.hidden = !box.parentElement.dataset.find.includes(wanted);
  });
  for (const name of ["x-axis", "y-axis", "log-y", "log-x", "bands", "each-run"]) id(name).addEventListener("change", () => redraw("curves-plot"));
  id("offers-y").addEventListener("change", () => redraw("offers-plot"));
  id("x-axis").addEventListener("change", () => {
    for (const cell of document.querySelectorAll("[data-axis]")) cell.hidden = cell.dataset.axis !== id("x-axis").value;
  });
  id("run").addEventListener("change", () => redraw(...ofRun));
  setShown();

  let folded = [];
  const resize = (size) => drawn.forEach((name) => Plotly.relayout(id(name), size));
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => (each.open = true));
    drawAll();
    resize({ width: PAPER_PX, autosize: false });
  });
  window.addEventListener("afterprint", () => {
    folded.forEach((each) => (each.open = false));
    resize({ width: null, autosize: true });
  });
  return { drawAll };
})();
