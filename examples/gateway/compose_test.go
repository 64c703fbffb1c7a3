package main

import (
	"encoding/json"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// readYAML reads a file that has nothing but the fields of v.
func readYAML(t *testing.T, name string, v any) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err = decoder.Decode(v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// A composition is as much of a compose file as compose.yaml uses.
type composition struct {
	Name     string
	Gateway  any `yaml:"x-gateway"`
	Services map[string]struct {
		Build       struct{ Context, Dockerfile string }
		Image       string
		Command     []string
		Environment map[string]string
		Ports       []string
		Volumes     []string
		Secrets     []string
		Configs     []struct{ Source, Target string }
		DependsOn   any    `yaml:"depends_on"`
		Restart     string `yaml:"restart"`
		Grace       string `yaml:"stop_grace_period"`
		Healthcheck struct {
			Test     []string
			Interval string
			Retries  int
		}
	}
	Volumes map[string]any
	Secrets map[string]struct{ Environment string }
	Configs map[string]struct{ Content string }
}

// TestCompose checks of compose.yaml what can be checked without images: that the parts name each
// other, the files that there are and the flags of the gateway.
func TestCompose(t *testing.T) {
	t.Parallel()
	var c composition
	readYAML(t, "compose.yaml", &c)
	var gateways []string
	for name, service := range c.Services {
		var needs []string
		switch on := service.DependsOn.(type) {
		case []any:
			for _, other := range on {
				needs = append(needs, other.(string))
			}
		case map[string]any:
			for other, how := range on {
				needs = append(needs, other)
				if how.(map[string]any)["condition"] == "service_healthy" && c.Services[other].Healthcheck.Test == nil {
					t.Errorf("%s waits until %s is healthy, which has no check", name, other)
				}
			}
		}
		for _, other := range needs {
			if _, ok := c.Services[other]; !ok {
				t.Errorf("%s depends on %s, which there is not", name, other)
			}
		}
		for _, port := range service.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: others than this machine reach %s", name, port)
			}
		}
		for _, volume := range service.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if _, named := c.Volumes[from]; !named {
				if _, err := os.Stat(from); err != nil || !strings.HasPrefix(from, "./") {
					t.Errorf("%s: %s is no volume and no file: %v", name, from, err)
				}
			}
		}
		for _, config := range service.Configs {
			var content map[string]any
			if err := yaml.Unmarshal([]byte(c.Configs[config.Source].Content), &content); err != nil || content["apiVersion"] != 1 {
				t.Errorf("%s: config %s: %v, %v", name, config.Source, content, err)
			}
		}
		for _, secret := range service.Secrets {
			if c.Secrets[secret].Environment != "GATEWAY_TOKEN" {
				t.Errorf("%s: there is no secret %s", name, secret)
			}
		}
		if service.Build.Dockerfile == "" {
			if _, tag, ok := strings.Cut(service.Image, ":"); !ok || tag == "latest" {
				t.Errorf("%s: the version of %q is not fixed", name, service.Image)
			}
			continue
		}

		gateways = append(gateways, name)
		if _, err := os.Stat(filepath.Join(service.Build.Context, service.Build.Dockerfile)); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(service.Build.Context, "wabox")); err != nil {
			t.Errorf("%s: the plugin is not in the context: %v", name, err)
		}
		cfg := parseCommand(t, append(entrypoint(t), service.Command...))
		if peer, err := url.Parse(cfg.peerURL); err != nil || peer.Hostname() != name || ":"+peer.Port() != cfg.listen {
			t.Errorf("%s, which listens on %s, tells others that it is at %s", name, cfg.listen, cfg.peerURL)
		}
		dsn, err := url.Parse(regexp.MustCompile(`\$\{[^}]*\}`).ReplaceAllString(service.Environment["GATEWAY_DSN"], "secret"))
		if err != nil {
			t.Fatal(err)
		}
		database := c.Services[dsn.Hostname()]
		if database.Environment["POSTGRES_USER"] != dsn.User.Username() || database.Environment["POSTGRES_DB"] != strings.TrimPrefix(dsn.Path, "/") {
			t.Errorf("%s: GATEWAY_DSN is %s, and the database's environment %v", name, dsn, database.Environment)
		}
		if !strings.Contains(service.Environment["GATEWAY_TOKEN"], "GATEWAY_TOKEN:?") {
			t.Errorf("%s starts without a token: %v", name, service.Environment)
		}
		grace, err := time.ParseDuration(service.Grace)
		if most := cfg.drain + 2*shutdownTime + 2*closeTime + statementTime; err != nil || grace <= most {
			t.Errorf("%s is killed after %v, and can take %v to end: %v", name, grace, most, err)
		}
		if !slices.ContainsFunc(service.Volumes, func(volume string) bool { return strings.HasSuffix(volume, ":"+cfg.cache.dir) }) {
			t.Errorf("%s has its cache in %s, which is no volume", name, cfg.cache.dir)
		}
	}
	if len(gateways) != 2 || c.Services[gateways[0]].Volumes[0] == c.Services[gateways[1]].Volumes[0] {
		t.Errorf("got %v, with %v", gateways, c.Services)
	}
	if !slices.Contains(c.Services["postgres"].Healthcheck.Test, "127.0.0.1") {
		t.Error("the database is healthy when it does not listen yet: while it is set up, it does so on its socket alone")
	}
	if path.Dir(c.Services["grafana"].Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]) != "/etc/dashboards" ||
		!strings.Contains(c.Configs["grafana_dashboards"].Content, "path: /etc/dashboards\n") {
		t.Error("Grafana does not have the dashboard where it looks")
	}

	var p struct {
		Global    map[string]string
		RuleFiles []string `yaml:"rule_files"`
		Scrapes   []struct {
			Job           string `yaml:"job_name"`
			Authorization struct {
				File string `yaml:"credentials_file"`
			}
			Static []struct{ Targets []string } `yaml:"static_configs"`
		} `yaml:"scrape_configs"`
	}
	readYAML(t, "prometheus.yaml", &p)
	mounts := strings.Join(c.Services["prometheus"].Volumes, "\n")
	for _, file := range append(p.RuleFiles, "/etc/prometheus/prometheus.yml") {
		if !strings.Contains(mounts, ":"+file+":ro") {
			t.Errorf("Prometheus has no %s", file)
		}
	}
	scrape := p.Scrapes[0]
	if scrape.Job != "gateway" || scrape.Authorization.File != "/run/secrets/"+c.Services["prometheus"].Secrets[0] {
		t.Errorf("got %+v", scrape)
	}
	slices.Sort(gateways)
	if len(scrape.Static[0].Targets) != len(gateways) {
		t.Errorf("Prometheus asks %v, and the gateways are %v", scrape.Static[0].Targets, gateways)
	}
	for i, target := range scrape.Static[0].Targets {
		host, port, err := net.SplitHostPort(target)
		if cfg := parseCommand(t, entrypoint(t)); err != nil || host != gateways[i] || ":"+port != cfg.listen {
			t.Errorf("Prometheus asks %s, and the gateways are %v", target, gateways)
		}
	}
}

// parseCommand returns the config of a gateway that is started with arguments.
func parseCommand(t *testing.T, args []string) config {
	t.Helper()
	cfg := defaults()
	set := flag.NewFlagSet("gateway", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	cfg.flags(set)
	set.String("log-format", "", "")
	if err := set.Parse(args); err != nil || set.NArg() > 0 {
		t.Errorf("%q: %v", args, err)
	}
	return cfg
}

// entrypoint returns the arguments that the image starts the gateway with.
func entrypoint(t *testing.T) (args []string) {
	t.Helper()
	raw, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(raw), "\nENTRYPOINT ")
	if err = json.Unmarshal([]byte(line), &args); err != nil || args[0] != "gateway" {
		t.Fatalf("ENTRYPOINT is %q: %v", line, err)
	}
	return args[1:]
}

// TestDockerfile checks what the image is made of.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	dockerfile := string(raw)
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	if !strings.Contains(dockerfile, "FROM golang:"+string(version[1])+"-") {
		t.Errorf("go.mod needs Go %s", version[1])
	}
	for _, want := range []string{"\nUSER gateway\n", "-o /gateway .", "--from=build /gateway /usr/local/bin/gateway"} {
		if !strings.Contains(dockerfile, want) {
			t.Errorf("there is no %q", want)
		}
	}
	cfg := parseCommand(t, entrypoint(t))
	if !strings.Contains(dockerfile, "\nVOLUME "+cfg.cache.dir+"\n") || !strings.Contains(dockerfile, "-o gateway -m 700 "+cfg.cache.dir+"\n") {
		t.Errorf("the cache is in %s, and that is no directory of the gateway's", cfg.cache.dir)
	}
	check := regexp.MustCompile(`http://127\.0\.0\.1(:\d+)(/\S*)`).FindStringSubmatch(dockerfile)
	g := &gateway{cfg: cfg, started: time.Now(), cache: newTestCache(t, cacheConfig{}), responses: newResponses(), passed: newPassed(), timings: newTimings()}
	g.cfg.token = pairToken
	w := httptest.NewRecorder()
	g.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, check[2], nil))
	if check[1] != cfg.listen || w.Code != http.StatusOK {
		t.Errorf("the health check asks %s%s: %d", check[1], check[2], w.Code)
	}
}

// A rule is an alert of alerts.yaml.
type rule struct {
	Alert, Expr         string
	For                 time.Duration
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) []rule {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	readYAML(t, "alerts.yaml", &file)
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 5 {
		t.Fatalf("got %+v", file)
	}
	return file.Groups[0].Rules
}

// TestAlerts checks that each alert says what it is about. testMetrics has their metrics.
func TestAlerts(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, r := range readRules(t) {
		if seen[r.Alert] || !regexp.MustCompile(`^Gateway[A-Za-z]+$`).MatchString(r.Alert) {
			t.Errorf("%q is no name, or another one's", r.Alert)
		}
		seen[r.Alert] = true
		if severity := r.Labels["severity"]; severity != "warning" && severity != "critical" || r.Annotations["summary"] == "" {
			t.Errorf("%s: %v, %v", r.Alert, r.Labels, r.Annotations)
		}
		if strings.Count(r.Expr, "(") != strings.Count(r.Expr, ")") || strings.Count(r.Expr, `"`)%2 != 0 {
			t.Errorf("%s: %s", r.Alert, r.Expr)
		}
		// What an aggregation has dropped cannot be named.
		for label, without := range map[string]string{"account": "sum by (le)", "instance": "sum by (account)"} {
			if strings.Contains(r.Annotations["summary"], "$labels."+label) && strings.Contains(r.Expr, without) {
				t.Errorf("%s: there is no label %s", r.Alert, label)
			}
		}
	}
}
