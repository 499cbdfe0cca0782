"use strict";
// What the workers did: a timeline of one run, where the time went, and how stale rounds were.
(() => {
  const { data, id, show, significant, unit, look, shown, plain, element, colors, isDark, legend, sample } = Report;
  // Patterns differ too, so that phases can be told apart without colours.
  const PHASES = {
    wait: { light: "#e9ecef", dark: "#2b323a", pattern: ".", css: (ink) => `radial-gradient(${ink} 18%, transparent 22%) 0 0 / 5px 5px` },
    pull: { light: "#56B4E9", dark: "#7cc4ee", pattern: "/", css: (ink) => `repeating-linear-gradient(-45deg, ${ink} 0 1px, transparent 1px 4px)` },
    compute: { light: "#0072B2", dark: "#2f7fb8", pattern: "", css: () => "none" },
    push: { light: "#E69F00", dark: "#e0a93a", pattern: "\\", css: (ink) => `repeating-linear-gradient(45deg, ${ink} 0 1px, transparent 1px 4px)` },
    lost: {
      light: "#e8b4ae", dark: "#8a4038", pattern: "x",
      css: (ink) => `repeating-linear-gradient(45deg, ${ink} 0 1px, transparent 1px 4px), repeating-linear-gradient(-45deg, ${ink} 0 1px, transparent 1px 4px)`,
    },
  };
  const hatch = () => (isDark() ? "rgba(255,255,255,.35)" : "rgba(0,0,0,.38)");
  const entry = (phase, name = phase) => [name, `${PHASES[phase].css(hatch())}, ${color(phase)}`.replace("none, ", "")];
  const color = (phase) => PHASES[phase][isDark() ? "dark" : "light"];
  const marker = (phase) => ({
    color: color(phase),
    line: { width: 0 },
    pattern: { shape: PHASES[phase].pattern, bgcolor: color(phase), fgcolor: hatch(), fillmode: "replace", size: 5, solidity: 0.22 },
  });
  const chosen = () => data.details[id("run").value];

  function workerNames(pairs) {
    return pairs.map(([worker, step]) => (step === null ? `${worker}` : `${worker}  \u00b7  ${significant(step)} s`));
  }

  function drawTimeline() {
    const own = chosen().timeline;
    const scale = unit("time", own.first_s);
    const count = own.workers.length;
    const bars = Object.keys(own.bars).map((phase) => {
      const [row, start, length, round] = own.bars[phase];
      return {
        type: "bar", orientation: "h", name: phase, y: row, base: start.map((s) => s / scale.size), x: length.map((s) => s / scale.size), width: 0.74,
        marker: marker(phase), customdata: round.map((number, i) => [number, show("time", length[i]), show("time", start[i])]),
        hovertemplate: `<b>${phase}</b> for %{customdata[1]}<br>from %{customdata[2]}<br>round %{customdata[0]}<extra></extra>`,
      };
    });
    const [gone, from, away] = own.absent;
    if (gone.length) {
      bars.push({
        type: "bar", orientation: "h", name: "absent", y: gone, base: from.map((s) => s / scale.size), x: away.map((s) => s / scale.size), width: 0.74,
        marker: marker("lost"), customdata: away.map((s) => show("time", s)), hovertemplate: "<b>absent</b> for %{customdata}<extra></extra>",
      });
    }
    const [lost, when] = own.lost;
    if (lost.length) {
      bars.push({
        type: "scatter", mode: "markers", name: "round lost", y: lost, x: when.map((s) => s / scale.size),
        marker: { symbol: "x", size: 8, color: isDark() ? "#ff8a7a" : "#a01818", line: { width: 1, color: colors().edge } }, hovertemplate: "<b>round lost</b><extra></extra>",
      });
    }
    bars.push({
      type: "scatter", mode: "markers", name: "server update", y: own.updates.map(() => count), x: own.updates.map((s) => s / scale.size),
      marker: { symbol: "line-ns-open", size: 13, color: colors().ink, line: { width: 1.2, color: colors().ink } },
      customdata: own.updates.map((s) => show("time", s)), hovertemplate: "<b>server update</b> at %{customdata}<extra></extra>",
    });
    Report.draw("timeline-plot", bars, {
      height: 80 + 26 * (count + 1), barmode: "overlay", bargap: 0, margin: { l: 92, r: 16, t: 8, b: 48 }, hovermode: "closest",
      xaxis: { title: { text: `simulated time (${scale.name})` }, range: [0, own.first_s / scale.size], maxallowed: own.until_s / scale.size, minallowed: 0 },
      yaxis: {
        range: [count + 0.6, -0.6], tickvals: [...Array(count + 1).keys()], ticktext: [...workerNames(own.workers), "server"], fixedrange: true, showgrid: false, zeroline: false,
      },
    });
    const entries = Object.keys(own.bars).filter((phase) => own.bars[phase][0].length).map((phase) => entry(phase));
    if (gone.length) entries.push(entry("lost", "absent"));
    if (lost.length) entries.push(["round lost", isDark() ? "#ff8a7a" : "#a01818", "dot"]);
    legend("timeline-legend", [...entries, ["server update", colors().ink, "tick"]]);
    const parts = [`Seed ${own.seed}. Shown at first: ${show("time", own.first_s)} of ${show("time", own.end_s)}`];
    parts.push(own.until_s < own.end_s ? `; drag to the right for more, up to ${show("time", own.until_s)}, which is what this page holds.` : "; drag or zoom for the rest.");
    if (count < own.of) parts.push(` ${count} of ${own.of.toLocaleString("en-US")} workers, evenly spaced from fastest to slowest.`);
    if (own.of) parts.push(" Rows are workers, with their measured seconds per local step. Blank: a round that never arrived.");
    id("timeline-note").textContent = parts.join("");
  }

  function drawShares() {
    const own = chosen().shares;
    const rows = [...own.worker.keys()];
    const bars = ["compute", "pull", "push", "wait", "lost"].filter((name) => own[name].some((share) => share > 0)).map((name) => ({
      type: "bar", orientation: "h", name: name === "lost" ? "lost or absent" : name, y: rows, x: own[name].map((share) => 100 * share), width: 0.74, marker: marker(name),
      hovertemplate: `<b>${name}</b> %{x:.1f} %<extra></extra>`,
    }));
    Report.draw("shares-plot", bars, {
      height: 80 + 26 * rows.length, barmode: "stack", bargap: 0, margin: { l: 92, r: 16, t: 8, b: 48 }, hovermode: "closest",
      xaxis: { title: { text: "share of the time (%)" }, range: [0, 100], fixedrange: true },
      yaxis: {
        range: [rows.length - 0.4, -0.6], tickvals: rows, ticktext: workerNames(own.worker.map((worker, i) => [worker, own.step_s[i]])), fixedrange: true, showgrid: false, zeroline: false,
      },
    });
    legend("shares-legend", bars.map(({ name }) => (name === "lost or absent" ? entry("lost", name) : entry(name))));
    id("shares-note").textContent = own.worker.length < own.of ? `${own.worker.length} of ${own.of.toLocaleString("en-US")} workers, evenly spaced from fastest to slowest.` : "";
  }

  function drawByWorker() {
    const { labels, spread } = chosen().staleness;
    const x = [...labels.keys()];
    const ink = isDark() ? "#4AA8E0" : "#0072B2";
    const between = (low, high, width, opacity) => ({
      type: "scatter", mode: "lines", hoverinfo: "skip", opacity, line: { color: ink, width }, connectgaps: false,
      x: x.flatMap((i) => [i, i, null]), y: spread.flatMap((each) => [each[low], each[high], null]),
    });
    Report.draw("by-worker-plot", [
      between(0, 4, 1.5, 1), between(1, 3, 9, 0.45),
      {
        type: "scatter", mode: "markers", x, y: spread.map((each) => each[2]), marker: { color: ink, size: 8, line: { width: 1, color: colors().edge } },
        customdata: spread.map(([low, first, , third, high]) => `middle half ${significant(first)} to ${significant(third)}, all ${significant(low)} to ${significant(high)}`),
        text: labels, hovertemplate: "<b>%{text}</b><br>mean %{y:.3g}<br>%{customdata}<extra></extra>",
      },
    ], {
      height: 320, margin: { l: 58, r: 16, t: 12, b: 60 }, hovermode: "closest",
      xaxis: { tickvals: x, ticktext: labels, showgrid: false, zeroline: false, fixedrange: true },
      yaxis: { title: { text: "staleness" }, rangemode: "tozero" },
    });
  }

  const MOST_BARS = 4;
  function drawStaleness() {
    const groups = [...shown].sort((a, b) => a - b).filter((group) => data.staleness[group].rounds.length);
    const few = groups.length <= MOST_BARS;
    const traces = groups.map((group) => {
      const { width, rounds } = data.staleness[group];
      const total = rounds.reduce((a, b) => a + b, 0);
      const { color: own, dash, symbol } = look(group);
      const x = rounds.map((_, i) => i * width + (width - 1) / 2);
      const drawn = few
        ? { type: "bar", marker: { color: own } }
        : { type: "scatter", mode: "lines+markers", line: { color: own, dash, width: 1.6 }, marker: { color: own, symbol, size: 6 } };
      return {
        ...drawn, x, y: rounds.map((count) => (100 * count) / total), name: plain(data.groups[group].label),
        customdata: rounds.map((count, i) => [width > 1 ? `${i * width} to ${i * width + width - 1}` : `${i}`, count.toLocaleString("en-US")]),
        hovertemplate: "<b>%{fullData.name}</b><br>staleness %{customdata[0]}<br>%{y:.1f} % of the rounds, %{customdata[1]}<extra></extra>",
      };
    });
    Report.draw("staleness-plot", traces, {
      height: 340, barmode: "group", bargap: 0.2, margin: { l: 58, r: 16, t: 12, b: 48 }, hovermode: "closest",
      xaxis: { title: { text: "staleness (server updates)" }, zeroline: false },
      yaxis: { title: { text: "share of the rounds (%)" }, rangemode: "tozero" },
    });
    legend("staleness-legend", groups.map((group) => [data.groups[group].label, few ? look(group).color : sample(group)]));
    id("staleness-note").textContent = data.groups.length > 1 ? "Of the variants that are chosen under Curves." : "";
  }

  const none = (names, text) => {
    for (const name of names) {
      id(name).classList.add("nothing");
      id(name).textContent = text;
    }
  };
  const held = Object.keys(data.details);
  id("run").replaceChildren(...held.map((group) => element("option", { value: group }, data.groups[group].label)));
  const best = Report.ranked.find((group) => held.includes(String(group)));
  if (best !== undefined) id("run").value = String(best);
  const draws = { "timeline-plot": drawTimeline, "shares-plot": drawShares, "by-worker-plot": drawByWorker, "staleness-plot": drawStaleness };
  const { drawings, sections, listeners } = Report.state;
  function begin(...names) {
    for (const name of names) {
      drawings.set(name, draws[name]);
      draws[name]();
    }
  }
  id("run").addEventListener("change", () => {
    for (const name of ["timeline-plot", "shares-plot", "by-worker-plot"]) if (drawings.has(name)) draws[name]();
  });
  sections.timeline = () => (held.length ? begin("timeline-plot", "shares-plot") : none(["timeline-plot", "shares-plot"], "No round arrived."));
  sections.staleness = () => {
    if (!held.length) {
      none(["staleness-plot", "by-worker-plot"], "No round arrived.");
      return;
    }
    begin("staleness-plot", "by-worker-plot");
    listeners.push(drawStaleness);
  };
})();
