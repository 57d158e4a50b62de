// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Draws the plots of a report from the JSON in the page: one line per method through its budgets, ordered by bytes.
(function () {
  'use strict';
  const data = JSON.parse(document.getElementById('plot-data').textContent);
  const colours = ['#14488c', '#d1495b', '#2a9d57', '#e08a1e', '#7b4fa3', '#0f9aa8', '#8c5a2b', '#c2418f', '#5f6b7a',
    '#7a9a01', '#3f7fd1', '#b3261e', '#006d5b', '#a68a00'];
  const shapes = ['circle', 'rect', 'triangle', 'rectRot', 'star', 'crossRot', 'cross'];
  const select = document.getElementById('group');
  const charts = [];

  data.groups.forEach((group, index) => select.add(new Option(group, String(index))));

  /** Seven shapes divide fourteen colours: each round of colours shifts the shapes, so that no two methods look alike. */
  function shapeOf(index) {
    return shapes[(index + Math.floor(index / colours.length)) % shapes.length];
  }

  /** Datasets of the points of a group that have a value of `key`. */
  function datasets(group, key, positive) {
    return data.methods.map((method, index) => {
      const points = data.points
        .filter((p) => p.group === group && p.method === method && p[key] !== null && (!positive || p[key] > 0))
        .sort((a, b) => a.bytes - b.bytes)
        .map((p) => ({ x: p.bytes, y: p[key], lo: p[key + '_lo'], hi: p[key + '_hi'], budget: p.budget }));
      return {
        label: method, data: points, showLine: points.length > 1, borderColor: colours[index % colours.length],
        backgroundColor: colours[index % colours.length], borderWidth: 1.6,
        pointStyle: shapeOf(index), pointRadius: 5.5, pointHoverRadius: 8, pointBorderWidth: 1.6,
      };
    }).filter((set) => set.data.length > 0);
  }

  /** A whisker from lo to hi through each point that has an interval. */
  const whiskers = {
    id: 'whiskers',
    beforeDatasetsDraw(chart) {
      const { ctx, scales } = chart;
      chart.data.datasets.forEach((set, index) => {
        if (!chart.isDatasetVisible(index)) {
          return;
        }
        ctx.save();
        ctx.strokeStyle = set.borderColor;
        ctx.globalAlpha = 0.45;
        set.data.forEach((p) => {
          if (typeof p.lo === 'number' && typeof p.hi === 'number') {
            const x = scales.x.getPixelForValue(p.x);
            ctx.beginPath();
            ctx.moveTo(x, scales.y.getPixelForValue(p.lo));
            ctx.lineTo(x, scales.y.getPixelForValue(p.hi));
            ctx.stroke();
          }
        });
        ctx.restore();
      });
    },
  };

  const short = (value) => Number(value).toPrecision(3).replace(/\.?0+$/, '');

  /** Labels of a logarithmic axis at 1, 2 and 5 times powers of ten. */
  function logLabel(value) {
    const digit = Number(value.toExponential()[0]);
    return [1, 2, 5].includes(digit) && Number(value.toPrecision(1)) === value ? (value < 1e-3 ? value.toExponential(0) : String(value)) : '';
  }

  function axis(title, log, limits) {
    return {
      type: log ? 'logarithmic' : 'linear', ...limits, title: { display: true, text: title, color: '#1c2430' },
      grid: { color: '#e6eaef' }, ticks: { color: '#3b4552', autoSkip: !log, maxRotation: 0, ...(log ? { callback: logLabel } : {}) },
    };
  }

  function draw(id, group, key, yTitle, log, limits) {
    const frame = document.getElementById(id);
    const sets = datasets(group, key, log);
    frame.closest('.plot').hidden = sets.length === 0;
    if (sets.length === 0) {
      return;
    }
    const values = sets.flatMap((set) => set.data.map((p) => p.x));
    charts.push(new Chart(frame, {
      type: 'scatter',
      data: { datasets: sets },
      plugins: [whiskers],
      options: {
        animation: false, maintainAspectRatio: false,
        scales: {
          x: axis('cache bytes, share of dense f16 (measured)', true,
            { min: Math.min(...values) * 0.85, max: Math.max(...values) * 1.15 }),
          y: axis(yTitle, log, limits),
        },
        plugins: {
          legend: { position: 'bottom', labels: { usePointStyle: true, boxWidth: 9, color: '#1c2430', padding: 12 } },
          tooltip: {
            callbacks: {
              label: (item) => `${item.dataset.label}${item.raw.budget ? ' at ' + item.raw.budget : ''}: ${short(item.raw.y)}` +
                (typeof item.raw.lo === 'number' ? ` [${short(item.raw.lo)}, ${short(item.raw.hi)}]` : '') +
                `, ${short(100 * item.raw.x)} % of the bytes`,
            },
          },
        },
      },
    }));
  }

  function drawAll() {
    charts.splice(0).forEach((chart) => chart.destroy());
    const group = data.groups[Number(select.value)];
    draw('plot-kld', group, 'kld', 'KL divergence, nats', true, {});
    draw('plot-accuracy', group, 'accuracy', 'right answers (95 % interval)', false, { min: 0, max: 1.02 });
    draw('plot-bits', group, 'bits_per_byte', 'bits per byte', false, {});
    draw('plot-attend', group, 'attend', 'time over dense (95 % interval)', false, { min: 0 });
    draw('plot-speed', group, 'tokens_per_s', 'tokens per second', false, { min: 0 });
  }

  select.addEventListener('change', drawAll);
  drawAll();
})();
