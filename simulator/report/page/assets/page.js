"use strict";
// Draws sections when they come into view, and all of them again in other colours or for paper.
(() => {
  const { id, state, colors, isDark, prefers } = Report;
  const PAPER_PX = 690; // A4 without its margins

  Report.draw = (name, traces, layout) => {
    const { paper, ink, muted, grid } = colors();
    const touch = window.matchMedia("(pointer: coarse)").matches;
    const title = (own) => (own && own.title ? { title: { ...own.title, font: { size: 13, color: muted } } } : {});
    const axis = { gridcolor: grid, linecolor: muted, zerolinecolor: grid, tickcolor: muted, automargin: true, separatethousands: true, exponentformat: "none" };
    const font = { family: getComputedStyle(document.body).fontFamily, size: 12.5, color: ink };
    const full = {
      paper_bgcolor: paper, plot_bgcolor: paper, font, showlegend: false, dragmode: touch ? false : "zoom",
      hoverlabel: { bgcolor: paper, bordercolor: muted, font: { color: ink, family: font.family }, align: "left" },
      ...layout,
      xaxis: { ...axis, showline: true, ticks: "outside", ...layout.xaxis, ...title(layout.xaxis) },
      yaxis: { ...axis, ...layout.yaxis, ...title(layout.yaxis) },
      ...(state.printing ? { width: PAPER_PX, autosize: false } : { autosize: true }),
    };
    const tools = {
      displaylogo: false, responsive: true, displayModeBar: !touch, modeBarButtonsToRemove: ["lasso2d", "select2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: name }, showSendToCloud: false, plotlyServerURL: "",
    };
    Plotly.react(id(name), traces, full, tools);
  };

  const pending = new Set(Object.keys(state.sections));
  function draw(name) {
    if (!pending.delete(name)) return;
    state.sections[name]();
  }
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      observer.unobserve(entry.target);
      draw(entry.target.dataset.lazy);
    }
    if (!document.documentElement.dataset.ready) {
      requestAnimationFrame(() => setTimeout(() => (document.documentElement.dataset.ready = performance.now().toFixed(0))));
    }
  }, { rootMargin: "300px" });
  document.querySelectorAll("[data-lazy]").forEach((section) => observer.observe(section));

  Report.drawAll = () => [...pending].forEach(draw);
  function redraw() {
    Report.list(); // its samples have colours too
    state.drawings.forEach((again) => again());
  }

  function setTheme() {
    const dark = isDark();
    id("theme").textContent = dark ? "Light" : "Dark";
    id("theme").setAttribute("aria-pressed", String(dark));
    redraw();
  }
  id("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    setTheme();
  });
  prefers.addEventListener("change", setTheme);
  setTheme();

  let folded = [];
  window.addEventListener("beforeprint", () => {
    state.printing = true;
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((each) => (each.open = true));
    Report.drawAll();
    redraw();
    Report.results();
  });
  window.addEventListener("afterprint", () => {
    state.printing = false;
    folded.forEach((each) => (each.open = false));
    redraw();
    state.drawings.forEach((_, name) => Plotly.Plots.resize(id(name)));
    Report.results();
  });
})();
