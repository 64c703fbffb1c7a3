package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/whatsmeow-plugins/reupload"
)

// A statsCollector gives Prometheus the statistics of plugins, one for each account. This file
// needs nothing of the gateway: copy it into your bot, change the package, and register it:
//
//	prometheus.MustRegister(statsCollector(func() map[string]reupload.Stats {
//		return map[string]reupload.Stats{"491701234567": plugin.Stats()}
//	}))
//
// dashboard.json shows the metrics in Grafana. They are counted since Register: an account that is
// registered again begins at zero, which Prometheus's rate and increase understand.
type statsCollector func() map[string]reupload.Stats

var (
	healthyDesc  = describe("reupload_healthy_downloads_total", "Downloads that WhatsApp's servers answered at once.")
	expiredDesc  = describe("reupload_expired_downloads_total", "Downloads whose file had expired.")
	healedDesc   = describe("reupload_healed_downloads_total", "Expired downloads that got their file all the same.")
	askedDesc    = describe("reupload_requests_total", "Requests sent to the phone.")
	lateDesc     = describe("reupload_late_answers_total", "New paths that came when nobody was waiting any more.")
	unhealedDesc = describe("reupload_unhealed_downloads_total", "Expired downloads that got nothing, by the label of their cause.", "cause")
	waitingDesc  = describe("reupload_waiting_requests", "Requests that wait for the phone now, or to be sent.")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"account"}, labels...), nil)
}

// Describe implements prometheus.Collector.
func (c statsCollector) Describe(to chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{healthyDesc, expiredDesc, healedDesc, askedDesc, lateDesc, unhealedDesc, waitingDesc} {
		to <- desc
	}
}

// Collect implements prometheus.Collector.
func (c statsCollector) Collect(to chan<- prometheus.Metric) {
	for account, stats := range c() {
		count := func(desc *prometheus.Desc, n uint64, labels ...string) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), append([]string{account}, labels...)...)
		}
		count(healthyDesc, stats.Healthy)
		count(expiredDesc, stats.Expired)
		count(healedDesc, stats.Healed)
		count(askedDesc, stats.Asked)
		count(lateDesc, stats.Late)
		for cause, n := range stats.Unhealed {
			count(unhealedDesc, n, cause)
		}
		to <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(stats.Waiting), account)
	}
}
