package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

// TestTimings has servers that take a second for each answer, and downloads that ask them twice.
func TestTimings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		timings := newTimings()
		var answers []int
		client := &http.Client{Transport: timedTransport{roundTripper(func(r *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			status := answers[0]
			if answers = answers[1:]; status == 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return &http.Response{StatusCode: status, Body: http.NoBody, Request: r}, nil
		}), timings}}
		failed := errors.New("failed")
		for _, c := range []struct {
			first, second int
			err           error
		}{
			{200, 200, nil}, // nothing has expired
			{410, 200, nil},
			{404, 200, nil},
			{403, 200, nil},
			{500, 200, nil},
			{0, 200, nil},
			{410, 410, failed},
		} {
			answers = []int{c.first, c.second}
			err := timings.heal(t.Context(), func(ctx context.Context) error {
				for range 2 {
					req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://mmg.whatsapp.net/v/x.enc", nil)
					if resp, err := client.Do(req); err == nil {
						resp.Body.Close()
					}
				}
				return c.err
			})
			if err != c.err {
				t.Errorf("%+v: got %v", c, err)
			}
		}
		registry := prometheus.NewPedanticRegistry()
		registry.MustRegister(timings.heals, timings.servers)
		for name, wants := range map[string][]string{
			"gateway_heal_seconds": {"gateway_heal_seconds_count 3\n", "gateway_heal_seconds_sum 6\n", `gateway_heal_seconds_bucket{le="1"} 0` + "\n", `gateway_heal_seconds_bucket{le="2"} 3` + "\n"},
			"gateway_media_server_seconds": {`gateway_media_server_seconds_count{status="410"} 3` + "\n", `gateway_media_server_seconds_sum{status="200"} 7` + "\n",
				`gateway_media_server_seconds_count{status="error"} 1` + "\n", `gateway_media_server_seconds_bucket{status="403",le="1"} 1` + "\n"},
		} {
			text, err := testutil.CollectAndFormat(registry, expfmt.TypeTextPlain, name)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range wants {
				if !strings.Contains(string(text), want) {
					t.Errorf("there is no %q in\n%s", want, text)
				}
			}
		}
	})
}
