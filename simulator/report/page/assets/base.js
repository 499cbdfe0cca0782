"use strict";
// What the other scripts share: the data, numbers as people read them, looks, and which variants are shown.
const Report = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const UNKNOWN = "\u2013";
  const known = (value) => typeof value === "number" && Number.isFinite(value);
  const id = (name) => document.getElementById(name);

  function significant(value, digits = 3) {
    if (value === 0) return "0";
    const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
    return value.toLocaleString("en-US", { maximumFractionDigits: Math.min(decimals, 20) });
  }

  function scaled(value, units) {
    let place = 0;
    while (Math.abs(value) >= 999.5 && place < units.length - 1) {
      value /= 1000;
      place += 1;
    }
    return `${significant(value)} ${units[place]}`.trim();
  }

  function duration(seconds) {
    const size = Math.abs(seconds);
    if (size < 119.5) return size > 0 && size < 0.1 ? `${significant(seconds * 1e3)} ms` : `${significant(seconds)} s`;
    if (size < 7200) return `${significant(seconds / 60)} min`;
    return size < 172800 ? `${significant(seconds / 3600)} h` : `${significant(seconds / 86400)} d`;
  }

  function perplexity(value) {
    if (Math.abs(value) >= 1e6) return value.toExponential(2);
    const decimals = value ? Math.min(3, Math.max(0, 3 - Math.floor(Math.log10(Math.abs(value))))) : 3;
    return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
  }

  const kinds = {
    text: String,
    time: duration,
    bytes: (value) => scaled(value, ["B", "kB", "MB", "GB", "TB", "PB", "EB"]),
    count: (value) => (value < 1e6 ? Math.round(value).toLocaleString("en-US") : scaled(value, ["", "k", "M", "G", "T"])),
    percent: (value) => `${(100 * value).toFixed(1)} %`,
    decimal: (value) => value.toFixed(2),
    number: (value) => significant(value, 4),
    money: (value) => value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }),
    perplexity,
  };
  const show = (kind, value) => (kind === "text" || known(value) ? kinds[kind](value) : UNKNOWN);

  // An axis in units that suit its largest value.
  const UNITS = {
    time: [[180, 1, "s"], [10800, 60, "min"], [259200, 3600, "h"], [Infinity, 86400, "days"]],
    bytes: [[1e3, 1, "bytes"], [1e6, 1e3, "kB"], [1e9, 1e6, "MB"], [1e12, 1e9, "GB"], [Infinity, 1e12, "TB"]],
    count: [[1e6, 1, ""], [1e9, 1e6, "millions"], [Infinity, 1e9, "billions"]],
  };
  function unit(kind, largest) {
    const [, size, name] = (UNITS[kind] || [[Infinity, 1, ""]]).find(([limit]) => !(largest >= limit));
    return { size, name };
  }

  const runsOf = data.groups.map(() => []);
  data.runs.group.forEach((group, run) => runsOf[group].push(run));
  const column = (key) => data.columns.find((each) => each.key === key);

  // The mean over the runs of a group that know a value, half their range, and how many know it.
  function summary(values) {
    const there = values.filter(known);
    if (!there.length) return { mean: null, half: 0, count: 0 };
    const mean = there.reduce((sum, value) => sum + value, 0) / there.length;
    return { mean, half: (Math.max(...there) - Math.min(...there)) / 2, count: there.length };
  }

  const LIGHT = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];
  const DARK = ["#4AA8E0", "#F2854A", "#35C79A", "#E39CC6", "#F0B440", "#9BD4F5", "#F2F2F2"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const MARKERS = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x", "triangle-left", "triangle-right"];
  const places = new Map(); // group -> number of its look; the smallest that is free when it is first shown
  function look(group) {
    if (!places.has(group)) {
      const taken = new Set(places.values());
      let place = 0;
      while (taken.has(place)) place += 1;
      places.set(group, place);
    }
    const place = places.get(group);
    return {
      color: (isDark() ? DARK : LIGHT)[place % LIGHT.length],
      dash: DASHES[place % DASHES.length],
      symbol: MARKERS[place % MARKERS.length],
    };
  }

  const state = { printing: false, drawings: new Map(), sections: {}, listeners: [] };
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  function isDark() {
    if (state.printing) return false;
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : prefers.matches;
  }
  const colors = () =>
    isDark()
      ? { paper: "#14171b", ink: "#e4e7eb", muted: "#9aa5b3", grid: "#2b323a", edge: "#14171b" }
      : { paper: "#ffffff", ink: "#1b1e23", muted: "#5a6472", grid: "#e4e8ec", edge: "#ffffff" };

  // Those that are shown at first: all, or, of many, those that reach the lowest perplexity.
  const MOST_AT_FIRST = 12;
  const final = column("final_perplexity");
  const reached = data.groups.map((_, group) =>
    final ? summary(runsOf[group].map((run) => final.values[run])).mean ?? Infinity : 0);
  const ranked = data.groups.map((_, group) => group).sort((a, b) => reached[a] - reached[b] || a - b);
  const shown = new Set(ranked.slice(0, MOST_AT_FIRST).sort((a, b) => a - b));
  shown.forEach(look);
  function setShown(groups) {
    shown.clear();
    groups.forEach((group) => shown.add(group));
    for (const group of [...places.keys()]) if (!shown.has(group)) places.delete(group);
    [...shown].sort((a, b) => a - b).forEach(look);
    state.listeners.forEach((listener) => listener());
  }

  // A name is shown by plotly as it is, not as the markup that plotly knows.
  const plain = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  // How the line of a group looks, as a picture.
  function sample(group) {
    const { color, dash } = look(group);
    const dashes = { solid: "", dash: "7 3", dot: "2 3", dashdot: "7 3 2 3" }[dash];
    const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of Object.entries({ width: 26, height: 10, "aria-hidden": "true" })) picture.setAttribute(name, value);
    const stroke = document.createElementNS("http://www.w3.org/2000/svg", "line");
    const drawn = { x1: 1, x2: 25, y1: 5, y2: 5, stroke: color, "stroke-width": 2.4, "stroke-dasharray": dashes };
    for (const [name, value] of Object.entries(drawn)) stroke.setAttribute(name, value);
    picture.append(stroke);
    return picture;
  }

  // Explains the colours of a plot in the page itself, where it can wrap; entries are names and CSS backgrounds or pictures.
  function legend(name, entries) {
    id(name).replaceChildren(...entries.map(([text, background, kind]) => {
      if (background instanceof Element) return element("span", {}, background, text);
      const swatch = element("i", { class: kind || "", "aria-hidden": "true" });
      swatch.style.background = background;
      return element("span", {}, swatch, text);
    }));
  }

  return {
    legend, sample, data, id, known, show, significant, unit, runsOf, column, summary, look, state, isDark, colors, prefers, shown,
    setShown, plain, element, ranked, UNKNOWN,
  };
})();
