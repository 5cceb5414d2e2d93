// Behaviour of the results: listeners on the document, since results come and go. No network.
(() => {
  if (window.vqmaeDemo) return;
  window.vqmaeDemo = true;

  // ---- a line, and the attention over the face, follow the clip ----
  const follow = (video) => {
    const result = video.closest(".vq-result");
    const line = result && result.querySelector(".vq-timeline");
    if (!line) return;
    const share = Math.min(1, video.currentTime / Number(line.dataset.duration));
    line.querySelector(".vq-cursor").style.left = 100 * share + "%";
    const heat = result.querySelector(".vq-heat");
    if (!heat) return;
    const last = Number(heat.dataset.maps) - 1;
    const map = Math.min(last, Math.floor(video.currentTime / Number(heat.dataset.seconds)));
    heat.style.backgroundPositionY = (last ? (100 * map) / last : 0) + "%";
  };
  const followWhilePlaying = (video) => {
    follow(video);
    show(video);
    if (!video.paused && video.isConnected) requestAnimationFrame(() => followWhilePlaying(video));
  };

  // ---- a button and a position below each clip ----
  const player = (element) => element.closest && element.closest(".vq-player");
  const show = (video) => {
    const box = player(video);
    if (!box) return;
    box.querySelector(".vq-play").textContent = video.paused ? "▶" : "❚❚";
    if (video.duration) box.querySelector(".vq-seek").value = (1000 * video.currentTime) / video.duration;
  };
  document.addEventListener("click", (event) => {
    const box = event.target.closest && player(event.target);
    if (!box || !event.target.closest(".vq-play, .vq-stage")) return;
    const video = box.querySelector("video");
    delete video.dataset.follows;
    if (video.paused) video.play().catch(() => {});
    else video.pause();
  });
  document.addEventListener("input", (event) => {
    if (!event.target.classList || !event.target.classList.contains("vq-seek")) return;
    const video = player(event.target).querySelector("video");
    delete video.dataset.follows;
    if (video.duration) video.currentTime = (video.duration * event.target.value) / 1000;
  });

  // ---- clips side by side play together: the one that was started is heard ----
  const companions = (video) => {
    const group = video.closest(".vq-together");
    return group ? [...group.querySelectorAll("video")].filter((other) => other !== video) : [];
  };
  const leads = (video) => video.dataset.follows !== "yes";
  document.addEventListener("play", (event) => {
    const video = event.target;
    if (!video.closest || !video.closest(".vq-result")) return;
    followWhilePlaying(video);
    if (!leads(video)) return;
    video.muted = false;
    for (const other of companions(video)) {
      other.dataset.follows = "yes";
      other.muted = true;
      other.currentTime = Math.min(video.currentTime, other.duration || 0);
      other.play().catch(() => {});
    }
  }, true);
  for (const name of ["pause", "ended"]) {
    document.addEventListener(name, (event) => {
      const video = event.target;
      if (!video.closest || !video.closest(".vq-together") || !leads(video)) return;
      for (const other of companions(video)) {
        other.pause();
        delete other.dataset.follows;
      }
    }, true);
  }
  for (const name of ["timeupdate", "seeked", "pause", "ended"]) {
    document.addEventListener(name, (event) => {
      const video = event.target;
      if (!video.closest || !video.closest(".vq-result")) return;
      follow(video);
      show(video);
      if (name === "seeked" && leads(video)) {
        for (const other of companions(video)) {
          if (other.dataset.follows === "yes" || other.paused) other.currentTime = Math.min(video.currentTime, other.duration || 0);
        }
      }
    }, true);
  }

  // ---- attention on and off ----
  document.addEventListener("change", (event) => {
    if (!event.target.classList || !event.target.classList.contains("vq-attention")) return;
    const result = event.target.closest(".vq-result");
    result.classList.toggle("vq-attending", event.target.checked);
    const video = result.querySelector("video");
    if (video) follow(video);
  });

  // ---- the patch below the pointer ----
  const explain = (cell) => {
    const section = cell.closest("section");
    if (!section) return;
    const { row, column } = cell.dataset;
    section.querySelectorAll(".vq-code.vq-on").forEach((other) => other.classList.remove("vq-on"));
    const same = section.querySelectorAll(`.vq-code[data-row="${row}"][data-column="${column}"]`);
    same.forEach((other) => other.classList.add("vq-on"));
    const says = [...same].map((other) => other.dataset.says).find(Boolean);
    if (says) section.querySelector(".vq-said").textContent = says;
    const patch = section.querySelector(".vq-patch");
    if (patch) {
      const side = Number(section.dataset.side);
      const place = (index) => (side > 1 ? (100 * index) / (side - 1) : 0) + "%";
      patch.style.backgroundSize = 100 * side + "%";
      patch.style.backgroundPosition = place(Number(column)) + " " + place(Number(row));
    }
    const band = section.querySelector(".vq-band");
    if (band) {
      const count = section.querySelectorAll(".vq-strip .vq-code").length;
      band.style.left = (100 * Number(column)) / count + "%";
      band.style.width = 100 / count + "%";
    }
  };
  for (const name of ["mouseover", "focusin"]) {
    document.addEventListener(name, (event) => {
      const cell = event.target.closest && event.target.closest(".vq-code");
      if (cell) explain(cell);
    });
  }
})();
