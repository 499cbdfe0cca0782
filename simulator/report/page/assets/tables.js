"use strict";
// The theme, and the table of results: sorted by a header, searched, one row for a variant or for every run, as a file.
(() => {
  const id = (name) => document.getElementById(name);
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  function setTheme(dark) {
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    id("theme").textContent = dark ? "Light" : "Dark";
    id("theme").setAttribute("aria-pressed", String(dark));
  }
  let chosen = false; // a choice outlasts a change of the system's
  id("theme").addEventListener("click", () => {
    chosen = true;
    setTheme(document.documentElement.dataset.theme === "light");
  });
  prefers.addEventListener("change", () => chosen || setTheme(prefers.matches));
  setTheme(prefers.matches);

  const FIRST_ROWS = 200; // see page.css
  const table = id("results-table");
  const [groups, runs] = table.tBodies;
  const value = (cell) => cell.dataset.value ?? cell.textContent;

  const natural = new Intl.Collator("en", { numeric: true }).compare;
  function sort(header) {
    const sign = header.ariaSort === "ascending" ? -1 : 1;
    for (const other of header.parentElement.cells) other.ariaSort = "none";
    header.ariaSort = sign > 0 ? "ascending" : "descending";
    const order = ([a], [b]) => {
      if (a === "" || b === "") return (a === "") - (b === ""); // unknown ones last, whichever the direction
      return sign * (a - b || natural(a, b));
    };
    for (const body of table.tBodies) {
      const rows = [...body.rows].map((row) => [value(row.cells[header.cellIndex]), row]);
      body.append(...rows.sort(order).map(([, row]) => row));
    }
  }

  function count() {
    const { rows } = table.classList.contains("by-run") ? runs : groups;
    const found = [...rows].filter((row) => !row.hidden).length;
    const [some, every] = [found, rows.length].map((number) => number.toLocaleString("en-US"));
    id("results-count").textContent = some === every ? `${every} rows` : `${some} of ${every} rows`;
    id("more-results").textContent = `Show all ${some} rows`;
    id("more-results").hidden = found <= FIRST_ROWS || table.classList.contains("all");
  }

  // One line for every run that is found, numbers as they are.
  function csv() {
    const quoted = (text) => (/[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text);
    const lines = [[...table.tHead.rows[0].cells].map((header) => header.dataset.key)];
    for (const row of runs.rows) if (!row.hidden) lines.push([...row.cells].map(value));
    return lines.map((line) => `${line.map(quoted).join(",")}\r\n`).join("");
  }

  id("find-result").addEventListener("input", () => {
    const words = id("find-result").value.toLowerCase().split(/\s+/);
    for (const row of [...groups.rows, ...runs.rows]) row.hidden = !words.every((word) => row.dataset.find.includes(word));
    count();
  });
  id("by-run").addEventListener("change", () => {
    table.classList.toggle("by-run", id("by-run").checked);
    count();
  });
  id("more-results").addEventListener("click", () => {
    table.classList.add("all");
    count();
  });
  id("download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.download = "results.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  for (const header of table.tHead.rows[0].cells) header.firstChild.addEventListener("click", () => sort(header));
  count();
})();
