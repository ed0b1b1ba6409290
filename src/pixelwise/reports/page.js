"use strict";
// Every page is complete without this script. It adds sorting, the viewer of pictures and the buttons that copy.

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", head.getAttribute("aria-sort") || "none");
    button.addEventListener("click", () => {
      const rows = [...body.rows];
      const isText = rows.some((row) => row.cells[column].dataset.text !== undefined);
      const now = head.getAttribute("aria-sort");
      const direction = now === "ascending" ? -1 : 1;
      const read = (row) => {
        const value = row.cells[column].dataset.value;
        return isText ? row.cells[column].dataset.text : value === "" ? NaN : Number(value);
      };
      const compare = (a, b) => {
        if (isText) return direction * a.localeCompare(b, undefined, { numeric: true });
        if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b); // undefined values stay last
        return direction * (a - b);
      };
      body.replaceChildren(...rows.sort((a, b) => compare(read(a), read(b))));
      for (const other of head.parentNode.cells) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    });
  });
}

for (const command of document.querySelectorAll(".command")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const code = command.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      // Without permission, as in a local file of some browsers: the old way.
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  command.append(button);
}

const groups = [...document.querySelectorAll(".pictures")].filter((group) => group.querySelector("img"));
if (groups.length) {
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "viewer-title");
  dialog.innerHTML = `
    <div class="viewer-head"><h2 id="viewer-title"></h2><button type="button" class="close">Close</button></div>
    <div class="stage"><img class="under" alt=""><img class="over" alt=""></div>
    <div class="viewer-tools">
      <fieldset><legend class="soft">Over the image</legend></fieldset>
      <div class="slide"><label for="viewer-slider">image</label><input id="viewer-slider" type="range" min="0" max="100" value="50"><span class="shown"></span></div>
      <button type="button" class="previous" aria-label="Previous image">‹ Previous</button>
      <button type="button" class="next" aria-label="Next image">Next ›</button>
    </div>`;
  document.body.append(dialog);
  const find = (selector) => dialog.querySelector(selector);
  const [under, over, slider, choices] = [".under", ".over", "#viewer-slider", "fieldset"].map(find);
  let current = 0;

  const listGroups = () => [...document.querySelectorAll(".pictures")].filter((group) => group.querySelector("img"));
  const slide = () => {
    over.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`;
  };
  const choose = (image) => {
    over.src = image.src;
    over.alt = image.alt;
    find(".shown").textContent = image.dataset.title;
    slider.setAttribute("aria-label", `Share of the image under ${image.dataset.title}`);
    slide();
  };
  const show = (group, title) => {
    current = listGroups().indexOf(group);
    const [first, ...others] = group.querySelectorAll("img");
    under.src = first.src;
    under.alt = first.alt;
    const row = group.closest("tr");
    const scores = row ? [...row.cells].slice(1).map((cell) => `${cell.dataset.title} ${cell.textContent.trim()}`) : [];
    find("h2").textContent = [group.dataset.name, ...scores].join(" · ");
    const wanted = others.find((image) => image.dataset.title === title) || others.find((image) => image.dataset.title === "prediction") || others[0];
    choices.querySelectorAll("label").forEach((label) => label.remove());
    for (const image of others) {
      const label = document.createElement("label");
      const radio = document.createElement("input");
      radio.type = "radio";
      radio.name = "viewer-over";
      radio.checked = image === wanted;
      radio.addEventListener("change", () => choose(image));
      label.append(radio, ` ${image.dataset.title}`);
      choices.append(label);
    }
    dialog.classList.toggle("single", !wanted);
    over.hidden = !wanted;
    if (wanted) choose(wanted);
    if (!dialog.open) dialog.showModal();
  };
  const move = (step) => {
    const all = listGroups();
    const checked = choices.querySelector("input:checked");
    show(all[(current + step + all.length) % all.length], checked && checked.parentNode.textContent.trim());
  };
  slider.addEventListener("input", slide);
  find(".close").addEventListener("click", () => dialog.close());
  find(".previous").addEventListener("click", () => move(-1));
  find(".next").addEventListener("click", () => move(1));
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  for (const group of groups)
    for (const image of group.querySelectorAll("img")) {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `Enlarge: ${image.alt}`);
      image.replaceWith(button);
      button.append(image);
      button.addEventListener("click", () => show(group, image.dataset.title));
    }
}

// A killed process writes no last page: an old page of a running process says so.
for (const note of document.querySelectorAll("[data-written]")) {
  const minutes = Math.floor((Date.now() / 1000 - Number(note.dataset.written)) / 60);
  if (minutes >= 10) {
    note.querySelector("b").textContent = `${minutes} minutes`;
    note.hidden = false;
  }
}
