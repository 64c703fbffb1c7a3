package main

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/whatsmeow-plugins/reupload"
)

// stats returns the statistics of all accounts.
func (g *gateway) stats() map[string]reupload.Stats {
	accounts := g.here()
	stats := make(map[string]reupload.Stats, len(accounts))
	for phone, a := range accounts {
		stats[phone] = a.plugin.Stats()
	}
	return stats
}

// newMetrics returns the metrics of the gateway, with those of reupload.
func (g *gateway) newMetrics() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		statsCollector(g.stats), stateCollector{g}, g.responses, g.passed, g.timings.heals, g.timings.servers,
	)
	gauge := func(name, help string, value func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
	}
	counter := func(name, help string, value func() uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value()) }))
	}
	counter("gateway_messages_stored_total", "Messages that were handled.", g.intake.stored.Load)
	counter("gateway_messages_dropped_total", "Messages that could never be stored.", g.intake.dropped.Load)
	counter("gateway_cache_hits_total", "Requests that were answered out of the cache.", g.cache.hits.Load)
	gauge("gateway_cache_bytes", "Size of all files in the cache.", func() float64 { _, bytes, _ := g.cache.usage(); return float64(bytes) })
	gauge("gateway_cache_limit_bytes", "How large the cache may become.", func() float64 { return float64(g.cache.limit) })
	counter("gateway_leases_lost_total", "How often this process has lost the leases of all its accounts.", func() uint64 { return uint64(g.cfg.lost) })
	gauge("gateway_leases", "Accounts that this process has a lease of.", func() float64 { return float64(len(g.own())) })
	gauge("gateway_accounts", "Accounts in the database.", func() float64 { return float64(len(g.list())) })
	gauge("gateway_accounts_unleased", "Accounts in the database that no process has a lease of.", func() float64 { return float64(g.leases.present().count(0)) })
	gauge("gateway_processes", "Processes that share the accounts.", func() float64 { return float64(len(g.leases.present().processes)) })
	gauge("gateway_downloads", "Downloads that run now.", func() float64 { _, _, n := g.cache.usage(); return float64(n) })
	gauge("gateway_requests", "Requests for media that run now.", func() float64 { return float64(len(g.requests)) })
	return registry
}

func newResponses() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gateway_media_responses_total", Help: "Requests for media that were answered, by the status.",
	}, []string{"status"})
}

func newPassed() prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{
		Name: "gateway_passed_requests_total", Help: "Requests that were answered by the gateway that has the account.",
	})
}

// counted counts the responses of a handler.
func (g *gateway) counted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next(seen, r)
		g.responses.WithLabelValues(strconv.Itoa(seen.status)).Inc()
	}
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// A stateCollector says of each account that is here whether it is linked and connected.
type stateCollector struct{ g *gateway }

var (
	linkedDesc    = describe("gateway_account_linked", "Whether the account is linked.")
	connectedDesc = describe("gateway_account_connected", "Whether the account is connected to WhatsApp.")
)

// Describe implements prometheus.Collector.
func (c stateCollector) Describe(to chan<- *prometheus.Desc) { to <- linkedDesc; to <- connectedDesc }

// Collect implements prometheus.Collector.
func (c stateCollector) Collect(to chan<- prometheus.Metric) {
	for _, a := range c.g.own() {
		for desc, is := range map[*prometheus.Desc]bool{linkedDesc: a.Linked, connectedDesc: a.Connected} {
			value := 0.0
			if is {
				value = 1
			}
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, a.Account)
		}
	}
}

func (g *gateway) metricsHandler() http.Handler {
	return promhttp.HandlerFor(g.newMetrics(), promhttp.HandlerOpts{})
}
