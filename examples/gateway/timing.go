package main

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// timings are how long WhatsApp's media servers and the phones take.
type timings struct {
	servers *prometheus.HistogramVec // by status
	heals   prometheus.Histogram
}

func newTimings() timings {
	return timings{
		servers: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "gateway_media_server_seconds", Help: "How long WhatsApp's media servers took to begin their answer, by its status, or error without one.",
			Buckets: []float64{.025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"status"}),
		heals: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "gateway_heal_seconds", Help: "How long downloads took whose file had expired and was healed, to their end.",
			Buckets: []float64{.25, .5, 1, 2, 4, 8, 15, 30, 60, 120},
		}),
	}
}

// expiredKey is of what a download's context has for the answers of the media servers: an
// *atomic.Bool that is set when one of them says that the file is gone.
type expiredKey struct{}

// heal does a download, and measures it if it heals.
func (t timings) heal(ctx context.Context, download func(context.Context) error) error {
	began, expired := time.Now(), new(atomic.Bool)
	err := download(context.WithValue(ctx, expiredKey{}, expired))
	if err == nil && expired.Load() {
		t.heals.Observe(time.Since(began).Seconds())
	}
	return err
}

// A timedTransport measures the media servers. It is below reupload's own transport, so that what
// that asks by itself counts as well.
type timedTransport struct {
	base http.RoundTripper
	timings
}

func (t timedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	began, status := time.Now(), "error"
	resp, err := t.base.RoundTrip(r)
	if err == nil {
		status = strconv.Itoa(resp.StatusCode)
		switch resp.StatusCode {
		case http.StatusForbidden, http.StatusNotFound, http.StatusGone:
			if expired, ok := r.Context().Value(expiredKey{}).(*atomic.Bool); ok {
				expired.Store(true)
			}
		}
	}
	t.servers.WithLabelValues(status).Observe(time.Since(began).Seconds())
	return resp, err
}
