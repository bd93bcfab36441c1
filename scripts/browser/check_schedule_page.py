"""The page of `simulate --draw`, held against the timeline it was made of."""

import json

from scene import OUT, PageTest, slimpipe


class SchedulePage(PageTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        trace = json.loads((OUT / "kept/timeline.json").read_text())["traceEvents"]
        spans = [event for event in trace if event["ph"] == "X"]
        begin = min(span["ts"] for span in spans)
        # Bars that compute: those that wait are lower and may lie under others.
        cls.spans = [dict(s, begin=(s["ts"] - begin) / 1e6, seconds=s["dur"] / 1e6) for s in spans if s["tid"] % 2 == 0]
        # A simulation whose units take as long as those that were measured.
        forward, backward = (cls.mean(kind) for kind in "FB")
        slimpipe(f"simulate --measured kept/timeline.json --forward {forward} --backward {backward} --draw schedule.html")

    @classmethod
    def mean(cls, kind):
        seconds = [span["seconds"] for span in cls.spans if span["name"].startswith(f"{kind} ")]
        return sum(seconds) / len(seconds)

    def measured(self, page):
        return page.evaluate("charts.findIndex(chart => chart.title.startsWith('measured'))")

    def on_chart(self, page, time, rank):
        return page.evaluate(
            f"""(() => {{
              const canvas = charts[{self.measured(page)}].canvas;
              canvas.scrollIntoView();
              const box = canvas.getBoundingClientRect();
              const x = LEFT + ({time} - view.from) / (view.to - view.from) * (box.width - LEFT);
              return [box.left + x, box.top + {rank} * (ROW + GAP) + ROW / 2];
            }})()"""
        )

    def test_the_tip_names_what_a_rank_did_and_holds(self):
        page = self.open("schedule.html")
        longest = max(self.spans, key=lambda span: span["seconds"])
        end = max(span["begin"] + span["seconds"] for span in self.spans)
        page.evaluate(f"move(0, {end})")
        page.settle()
        rank = longest["tid"] // 2
        page.hover(*self.on_chart(page, longest["begin"] + longest["seconds"] / 2, rank))
        tip = page.text("#tip")
        self.assertTrue(tip.startswith(f"rank {rank}: {longest['name']}: "), tip)
        self.assertRegex(tip, r"\nholds [\d.]+ [KM]iB$")
        self.assertIn(f"{longest['seconds'] * 1e3:.3f} ms" if longest["seconds"] < 1 else f"{longest['seconds']:.4f} s", tip)

    def test_an_export_for_perfetto_is_read_as_what_it_was_made_of(self):
        slimpipe("trace export kept --to perfetto --out perfetto.json")
        slimpipe("trace view perfetto.json --out perfetto.html")
        page = self.open("perfetto.html")
        ranks = page.evaluate("charts[0].ranks.map(rank => [rank.peak, rank.bars.length])")
        logs = json.loads(slimpipe("trace summary kept --json"))["logs"]
        timeline = json.loads((OUT / "kept/timeline.json").read_text())["traceEvents"]
        spans = [sum(e["ph"] == "X" and e["tid"] // 2 == rank for e in timeline) for rank in range(len(ranks))]
        self.assertEqual(ranks, [[log["active_peak"], count] for log, count in zip(logs, spans)])
        self.assert_seen(page, "perfetto.png")

    def test_keys_wheel_and_drags_zoom_and_move(self):
        page = self.open("schedule.html")
        view = lambda: page.evaluate("[view.from, view.to]")
        whole = view()
        page.key("+")
        self.assertAlmostEqual((view()[1] - view()[0]) / whole[1], 0.7)
        before = view()
        page.key("ArrowRight")
        self.assertGreater(view()[0], before[0])
        page.key("0")
        self.assertEqual(view(), whole)
        x, y = self.on_chart(page, whole[1] / 2, 0)
        page.wheel(x, y, -300)
        zoomed = view()
        self.assertLess(zoomed[1] - zoomed[0], 0.6 * whole[1])
        page.drag([(x, y), (x - 50, y), (x - 100, y)])
        self.assertGreater(view()[0], zoomed[0])

    def test_simulated_and_measured_charts_are_seen_in_light_and_in_dark(self):
        page = self.open("schedule.html")
        self.assertGreaterEqual(page.evaluate("charts.length"), 2)
        light = self.assert_seen(page, "schedule-light.png")
        dark = self.assert_seen(self.open("schedule.html", dark=True), "schedule-dark.png")
        self.assertGreater(light, dark + 0.3)
        self.assertIn("idle", page.text("main"))
