// One figure per screen: #screen-0 is the question of a page, then come its figures. Arrow keys lead on, at
// the ends to the neighbours in STORY, the lesson's pages in order; Escape leads back to the page.
const STEPS = { ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1 };
const screens = [...document.querySelectorAll(".opening, figure")];
const here = STORY.indexOf(location.pathname.split("/").pop());

function asked() {
  const number = location.hash.match(/^#screen-(\d+)$/)?.[1];
  return number && Math.min(number, screens.length - 1);
}

function show() {
  const number = asked();
  document.body.classList.toggle("one", number !== undefined);
  document.body.dataset.place = `${number + 1} / ${screens.length}`;
  screens.forEach((screen, index) => {
    screen.id = `part-${index}`;
    screen.classList.toggle("shown", index === number);
    const size = Math.min(innerWidth / (screen.offsetWidth + 32), innerHeight / (screen.offsetHeight + 64));
    screen.style.setProperty("--size", size);
  });
}

addEventListener("keydown", (event) => {
  const number = asked(), step = STEPS[event.key];
  if (number === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape") {
    document.body.classList.remove("one");
    location.hash = `part-${number}`;
  } else if (step) {
    event.preventDefault();
    if (screens[number + step]) location.hash = `screen-${number + step}`;
    else if (here >= 0 && STORY[here + step]) location.href = `${STORY[here + step]}#screen-${step > 0 ? 0 : 999}`;
  }
});
addEventListener("hashchange", show);
addEventListener("resize", show);
show();
