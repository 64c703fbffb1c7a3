package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
	"go.mau.fi/whatsmeow/proto/waE2E"

	"github.com/whatsmeow-plugins/reupload"
)

func TestStatsCollector(t *testing.T) {
	t.Parallel()
	collector := statsCollector(func() map[string]reupload.Stats {
		return map[string]reupload.Stats{
			"1": {Healthy: 1, Expired: 2, Asked: 3, Healed: 4, Late: 5, Waiting: 6, Unhealed: map[string]uint64{"timeout": 7, "not_found": 8}},
			"2": {},
		}
	})
	want := `
# HELP reupload_unhealed_downloads_total Expired downloads that got nothing, by the label of their cause.
# TYPE reupload_unhealed_downloads_total counter
reupload_unhealed_downloads_total{account="1",cause="not_found"} 8
reupload_unhealed_downloads_total{account="1",cause="timeout"} 7
# HELP reupload_waiting_requests Requests that wait for the phone now, or to be sent.
# TYPE reupload_waiting_requests gauge
reupload_waiting_requests{account="1"} 6
reupload_waiting_requests{account="2"} 0
`
	if err := testutil.CollectAndCompare(collector, strings.NewReader(want), "reupload_unhealed_downloads_total", "reupload_waiting_requests"); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"healthy_downloads": "1", "expired_downloads": "2", "requests": "3", "healed_downloads": "4", "late_answers": "5"} {
		name = "reupload_" + name + "_total"
		text, err := testutil.CollectAndFormat(collector, expfmt.TypeTextPlain, name)
		if err != nil || !strings.Contains(string(text), name+`{account="1"} `+want+"\n") {
			t.Errorf("%s: got %s, %v", name, text, err)
		}
	}
	if problems, err := testutil.CollectAndLint(collector); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	prometheus.NewPedanticRegistry().MustRegister(collector)
}

var metricName = regexp.MustCompile(`\b(reupload|gateway)_[a-z_]+\b`)

// testMetrics has each metric of the dashboard and of the alerts in what the gateway says, with its
// labels.
func testMetrics(t *testing.T, s *stage) {
	media := s.upload("metrics")
	s.box.Expire(media)
	s.deliver(t, "METRICS", &waE2E.Message{ImageMessage: media.Image()})
	s.waitStored(t, "METRICS")
	lost := s.upload("lost")
	s.box.Expire(lost)
	s.deliver(t, "LOST", &waE2E.Message{ImageMessage: lost.Image()})
	s.waitRow(t, "LOST")
	s.phones[s.a].Forget("LOST")
	s.ask(t, http.MethodGet, "LOST")

	resp, err := http.Get(s.base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text := new(strings.Builder)
	if _, err = io.Copy(text, resp.Body); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`gateway_account_connected{account="` + s.a + `"} 1`, `gateway_account_linked{account="` + s.b + `"} 1`,
		`reupload_unhealed_downloads_total{account="` + s.a + `",cause="not_found"}`, `gateway_media_responses_total{status="410"}`,
		"go_goroutines ", "gateway_heal_seconds_count ", `gateway_media_server_seconds_count{status="410"} `, `gateway_media_server_seconds_count{status="200"} `,
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("there is no %s", want)
		}
	}

	raw, err := os.ReadFile("dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title, Description string
			Targets            []struct{ Expr string }
		}
	}
	if err = json.Unmarshal(raw, &dashboard); err != nil || len(dashboard.Panels) < 10 {
		t.Fatalf("%d panels, %v", len(dashboard.Panels), err)
	}
	shown := make(map[string]bool)
	exports := func(what, name string) {
		t.Helper()
		kind := " "
		if base := ofHistogram(name); base != name {
			name, kind = base, " histogram\n"
		}
		if !strings.Contains(text.String(), "# TYPE "+name+kind) {
			t.Errorf("%s: there is no metric %s", what, name)
		}
	}
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			names := metricName.FindAllString(target.Expr, -1)
			if len(names) == 0 {
				t.Errorf("%s: no metric in %s", panel.Title, target.Expr)
			}
			for _, name := range names {
				shown[ofHistogram(name)] = true
				exports(panel.Title, name)
			}
			checkLabels(t, text.String(), panel.Title, target.Expr)
		}
	}
	for _, r := range readRules(t) {
		for _, name := range metricName.FindAllString(r.Expr, -1) {
			exports(r.Alert, name)
		}
		checkLabels(t, text.String(), r.Alert, r.Expr)
	}
	for _, line := range strings.Split(text.String(), "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok && metricName.MatchString(name) && !shown[strings.Fields(name)[0]] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// ofHistogram returns the name of the histogram that has a series, or the name itself.
func ofHistogram(name string) string {
	for _, end := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, end); ok {
			return base
		}
	}
	return name
}

var selector = regexp.MustCompile(`\b((?:reupload|gateway)_[a-z_]+)\{([^}]*)\}`)

// checkLabels checks that the metrics of an expression have the labels that it selects them by.
func checkLabels(t *testing.T, text, what, expr string) {
	t.Helper()
	for _, found := range selector.FindAllStringSubmatch(expr, -1) {
		for _, condition := range strings.Split(found[2], ",") {
			label, _, _ := strings.Cut(condition, "=")
			series := regexp.MustCompile(`(?m)^` + found[1] + `\{[^}]*\b` + label + `="`)
			if !series.MatchString(text) {
				t.Errorf("%s: %s has no label %s", what, found[1], label)
			}
		}
	}
}

// TestMetricsNeedTheToken, as they have phone numbers in them.
func TestMetricsNeedTheToken(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.token = "0123456789abcdef"
	g, err := open(context.WithoutCancel(t.Context()), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	server := httptest.NewServer(g.handler())
	defer server.Close()
	for _, path := range []string{"/metrics", "/"} {
		if got := status(t, server.URL+path); got != http.StatusUnauthorized {
			t.Errorf("%s: got %d", path, got)
		}
	}
}
