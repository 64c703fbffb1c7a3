//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// What a process of the test is started with.
const (
	boxVariable     = "GATEWAY_TEST_BOX"
	timesVariable   = "GATEWAY_TEST_TIMES"
	addressVariable = "GATEWAY_TEST_ADDRESS" // from which it connects, and by which the box knows it
)

// testTimes are short. There is as much time to stop in as a busy machine may need.
var testTimes = leaseTimes{life: 7 * time.Second, trust: 4 * time.Second, beat: 250 * time.Millisecond}

// gatewayProcess is main for a gateway in the box of another process.
func gatewayProcess() error {
	remote, err := wabox.Join(os.Getenv(boxVariable))
	if err != nil {
		return err
	}
	transport := remote.Transport()
	box, err := address(os.Getenv(boxVariable))
	if err != nil {
		return err
	}
	from := &net.TCPAddr{IP: net.ParseIP(os.Getenv(addressVariable))}
	transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{LocalAddr: from}).DialContext(ctx, "tcp", box)
	}
	cfg := defaults()
	cfg.listen, cfg.timeout, cfg.transport = "127.0.0.1:0", 20*time.Second, transport
	if _, err = fmt.Sscan(os.Getenv(timesVariable), &cfg.leases.life, &cfg.leases.trust, &cfg.leases.beat); err != nil {
		return err
	}
	if cfg.log, err = newLog(os.Stdout, "text", slog.LevelInfo); err != nil {
		return err
	}
	if err = cfg.complete(); err != nil {
		return err
	}
	clean := make(chan os.Signal, 1)
	signal.Notify(clean, syscall.SIGUSR1)
	go func() {
		for range clean {
			debug.FreeOSMemory()
		}
	}()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return run(ctx, cfg)
}

// address returns the address in an invitation.
func address(invitation string) (string, error) {
	_, rest, ok := strings.Cut(invitation, "://")
	host, _, _ := strings.Cut(rest, "?")
	if !ok {
		return "", errors.New("no invitation")
	}
	return host, nil
}

// A fleet is gateways on one database, and a WhatsApp that watches them.
type fleet struct {
	testing.TB
	box      *wabox.Box
	dsn      string
	times    leaseTimes
	grace    time.Duration // how much longer things may take, as the machine is busy
	accounts map[string]*wabox.Account

	mu        sync.Mutex
	processes []*process
	silent    map[string]bool // files for which an answer of the phone was lost
}

// A process is a gateway of its own.
type process struct {
	name    string
	cmd     *exec.Cmd
	ip, url string
	db      *line
	halted  atomic.Bool // it is stopped by a signal, or gone
	ended   chan struct{}
	out     *safeBuffer
}

const fleetToken = "0123456789abcdef0123456789abcdef"

func newFleet(t testing.TB, accounts int) *fleet {
	f := &fleet{TB: t, times: testTimes, dsn: newDatabase(t), box: wabox.Start(t, wabox.Sockets()), accounts: make(map[string]*wabox.Account), silent: make(map[string]bool)}
	db, err := sql.Open(driver, f.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sessions := sqlstore.NewWithDB(db, dialect, nil)
	if err = sessions.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range accounts {
		device := sessions.NewDevice()
		account := f.box.Pair(device)
		if err = device.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		account.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, Delay: time.Duration(rand.IntN(1500)) * time.Millisecond}}
		})
		f.accounts[account.PN.User] = account
	}
	f.box.OnEvent(f.watch)
	return f
}

// watch sees to it that no account is connected by two running processes: the server ends the
// connection of the first one then, and says so to it.
func (f *fleet) watch(evt wabox.Event) {
	if evt.What != wabox.NodeOut || evt.Node.Tag != "stream:error" {
		return
	}
	host, _, _ := net.SplitHostPort(evt.Client.String())
	for _, p := range f.all() {
		if p.ip == host && !p.halted.Load() {
			f.Errorf("%s was connected for %s when another one logged in: %s", p.name, evt.Account.User, evt.Node)
		}
	}
}

func (f *fleet) all() []*process {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*process(nil), f.processes...)
}

// running returns the processes that should have accounts.
func (f *fleet) running() (running []*process) {
	for _, p := range f.all() {
		if !p.halted.Load() && !p.db.isCut() {
			running = append(running, p)
		}
	}
	return running
}

var listeningURL = regexp.MustCompile(`msg=Listening url=(\S+)`)

// start starts a gateway.
func (f *fleet) start(name string) *process {
	f.Helper()
	n := len(f.all())
	p := &process{name: name, ip: fmt.Sprintf("127.0.0.%d", 20+n), ended: make(chan struct{}), out: new(safeBuffer)}
	host, rest, _ := strings.Cut(f.dsn, " ")
	p.db = newLine(f.TB, filepath.Join(strings.TrimPrefix(host, "host="), ".s.PGSQL.5432"))
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), boxVariable+"="+f.box.Invitation(), addressVariable+"="+p.ip,
		"GATEWAY_TOKEN="+fleetToken, timesVariable+"="+fmt.Sprint(int64(f.times.life), int64(f.times.trust), int64(f.times.beat)), "GATEWAY_DSN=host="+p.db.dir+" "+rest)
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		f.Fatal(err)
	}
	p.cmd.Stderr = p.out
	if err = p.cmd.Start(); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if f.Failed() {
			f.Logf("%s, %s, said\n%s", p.name, p.url, p.out)
		}
	})
	listening := make(chan string, 1)
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			fmt.Fprintln(p.out, lines.Text())
			if found := listeningURL.FindStringSubmatch(lines.Text()); found != nil {
				listening <- found[1]
			}
		}
		_ = p.cmd.Wait()
		close(listening)
	}()
	select {
	case p.url = <-listening:
	case <-time.After(time.Minute):
	}
	if p.url == "" {
		f.Fatalf("%s does not run:\n%s", name, p.out)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.processes = append(f.processes, p)
	return p
}

func (p *process) signal(sig syscall.Signal) { _ = p.cmd.Process.Signal(sig) }

// kill is kill -9.
func (p *process) kill() {
	p.halted.Store(true)
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) stop() {
	p.halted.Store(true)
	p.signal(syscall.SIGSTOP)
}

func (p *process) goOn() {
	p.halted.Store(false)
	p.signal(syscall.SIGCONT)
}

func (f *fleet) request(ctx context.Context, p *process, path string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+fleetToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength, body: body}, err
}

// settle waits until each running gateway says that all accounts are connected, and that each
// running one has its share. It returns how long that took.
func (f *fleet) settle() time.Duration {
	f.Helper()
	begin := time.Now()
	var seen string
	for time.Since(begin) < time.Minute+time.Duration(len(f.accounts))*time.Second {
		seen = f.unsettled()
		if seen == "" {
			return time.Since(begin)
		}
		time.Sleep(50 * time.Millisecond)
	}
	f.Fatalf("the accounts are not shared: %s", seen)
	return 0
}

func (f *fleet) unsettled() string {
	running := f.running()
	for _, p := range running {
		ctx, cancel := context.WithTimeout(f.Context(), 5*time.Second)
		got, err := f.request(ctx, p, "/accounts")
		cancel()
		var list struct{ Accounts []accountState }
		if err = errors.Join(err, json.Unmarshal(got.body, &list)); err != nil || got.status != http.StatusOK {
			return fmt.Sprintf("%s says %s, %v", p.name, got, err)
		}
		has := make(map[string]int)
		for _, a := range list.Accounts {
			if !a.Connected || !a.Linked {
				return fmt.Sprintf("%s says %s", p.name, got.body)
			}
			has[a.Gateway]++
		}
		least, most := len(f.accounts)/len(running), (len(f.accounts)+len(running)-1)/len(running)
		for _, other := range running {
			if n := has[other.url]; n < least || n > most || len(list.Accounts) != len(f.accounts) {
				return fmt.Sprintf("%s says %s", p.name, got.body)
			}
		}
	}
	return ""
}

// ask asks for a file, as a caller does that knows several gateways: as long as it is told to try
// again, and of another one if the first does not answer.
func (f *fleet) ask(ctx context.Context, account string, id types.MessageID, want []byte) {
	path := fmt.Sprintf("/accounts/%s/chats/%s/messages/%s/media", account, sender, id)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	last := ""
	for ctx.Err() == nil {
		all := f.running()
		p := all[rand.IntN(len(all))]
		impatient, cancel := context.WithTimeout(ctx, 25*time.Second)
		got, err := f.request(impatient, p, path)
		cancel()
		last = fmt.Sprint(p.name, " said ", got, ", ", err)
		if err == nil && got.status == http.StatusOK {
			if !bytes.Equal(got.body, want) {
				f.Errorf("%s of %s: %s", id, account, last)
			}
			return
		}
		// The process that had the account was stopped, or cut off, while it handled the phone's
		// answer.
		if err == nil && got.status == http.StatusGatewayTimeout {
			f.mu.Lock()
			f.silent[account+" "+id] = true
			f.mu.Unlock()
			time.Sleep(time.Second)
			continue
		}
		// A message that was not stored yet is not known.
		if err == nil && got.status != http.StatusNotFound && (got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "") {
			f.Errorf("%s of %s: %s", id, account, last)
			return
		}
		time.Sleep(300 * time.Millisecond)
	}
	f.Errorf("%s of %s was not served: %s", id, account, last)
}

// TestProcesses lets gateways come and go in every way while callers ask them for files that have
// expired. Each file is served, the phone is asked for it once, and no account is ever connected by
// two running processes.
func TestProcesses(t *testing.T) {
	f := newFleet(t, 5)
	a, b := f.start("a"), f.start("b")
	f.grace = 4*time.Second + 2*f.settle()

	asking, stopAsking := context.WithCancel(t.Context())
	defer stopAsking()
	var callers sync.WaitGroup
	var files atomic.Int64
	callers.Go(func() {
		waiting := make(map[string]chan struct{})
		for account := range f.accounts {
			waiting[account] = make(chan struct{}, 6)
		}
		for n := 0; asking.Err() == nil; n++ {
			for account, phone := range f.accounts {
				waiting := waiting[account]
				if len(waiting) == cap(waiting) { // a machine that is busy is not made busier
					continue
				}
				content := fmt.Appendf(nil, "file %d of %s", n, account)
				media := f.box.Upload(content, whatsmeow.MediaImage)
				f.box.Expire(media)
				id, err := phone.Deliver(wabox.Incoming{ID: fmt.Sprintf("3EB0%06d", n), From: sender, Alt: senderLID}, &waE2E.Message{ImageMessage: media.Image()})
				if err != nil {
					t.Error(err)
					return
				}
				files.Add(1)
				for range 2 {
					waiting <- struct{}{}
					callers.Go(func() {
						f.ask(t.Context(), account, id, content)
						<-waiting
					})
				}
			}
			time.Sleep(700 * time.Millisecond)
		}
	})
	step := func(what string, most time.Duration) {
		t.Helper()
		took := f.settle()
		t.Logf("%-40s shared after %v", what, took.Round(10*time.Millisecond))
		if took > most {
			t.Errorf("%s: it took %v", what, took)
		}
	}
	aMoment := 2*time.Second + f.grace
	lost := testTimes.life + testTimes.doubt() + aMoment

	c := f.start("c")
	step("a third one is added", 8*time.Second+aMoment) // accounts with requests stay until these have ended
	a.kill()
	step("one is killed", lost)
	d := f.start("d")
	step("another one is added", 8*time.Second+aMoment)

	b.stop()
	step("one is stopped", lost)
	b.goOn()
	step("it goes on", 8*time.Second+aMoment)

	c.stop() // for so long that it cannot rely on its leases, and that others do not have them yet
	time.Sleep((testTimes.trust + testTimes.life) / 2)
	c.goOn()
	step("one goes on before others have taken over", lost+8*time.Second)

	d.db.cut(true)
	step("one is cut off from the database", lost)
	d.db.cut(false)
	step("it is not any more", 8*time.Second+aMoment)

	b.halted.Store(true)
	b.signal(syscall.SIGTERM)
	<-b.ended
	step("one ends", aMoment)

	stopAsking()
	callers.Wait()
	if err := f.asked(files.Load()); err != nil {
		t.Error(err)
	}
	for _, p := range f.all() {
		for _, leak := range f.box.Leaks([]byte(p.out.String())) {
			t.Errorf("%s has logged %s", p.name, leak)
		}
	}
}

// asked checks that the phones were asked for each file once.
func (f *fleet) asked(files int64) (err error) {
	var sum int64
	for number, account := range f.accounts {
		times := make(map[types.MessageID]int)
		for _, r := range account.Requests() {
			times[r.ID]++
			sum++
		}
		for id, n := range times {
			if n > 1 && f.silent[number+" "+id] {
				sum -= int64(n - 1)
			} else if n > 1 {
				err = errors.Join(err, fmt.Errorf("the phone %s was asked %d times for %s", number, n, id))
			}
		}
	}
	if sum != files {
		err = errors.Join(err, fmt.Errorf("there were %d files, and %d requests", files, sum))
	}
	if most := 3; len(f.silent) > most {
		err = errors.Join(err, fmt.Errorf("the answers for %d files were lost: %v", len(f.silent), f.silent))
	}
	return err
}

// A line leads to the database, through a socket of its own in dir.
type line struct {
	dir string

	carried atomic.Int64 // bytes, both ways

	mu   sync.Mutex
	open chan struct{} // closed while the line is good
}

func newLine(t testing.TB, to string) *line {
	dir, err := os.MkdirTemp("", "line-") // short, as for the database itself
	if err != nil {
		t.Fatal(err)
	}
	l := &line{dir: dir, open: make(chan struct{})}
	close(l.open)
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var conns sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		listener.Close()
		conns.Wait()
		os.RemoveAll(dir)
	})
	conns.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { l.carry(ctx, client, to) })
		}
	})
	return l
}

// cut lets nothing through any more, in either direction. Neither side is told.
func (l *line) cut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut {
		l.open = make(chan struct{})
	} else {
		close(l.open)
	}
}

func (l *line) gate() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}

func (l *line) isCut() bool {
	select {
	case <-l.gate():
		return false
	default:
		return true
	}
}

func (l *line) carry(ctx context.Context, client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("unix", to)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			defer way[1].(*net.UnixConn).CloseWrite()
			buffer := make([]byte, 32<<10)
			for {
				n, err := way[0].Read(buffer)
				l.carried.Add(int64(n))
				select {
				case <-l.gate():
				case <-ctx.Done():
					return
				}
				if _, writeErr := way[1].Write(buffer[:n]); err != nil || writeErr != nil {
					return
				}
			}
		})
	}
	both.Wait()
}

// TestLost cuts a gateway off from its database until it has lost its leases. It answers meanwhile,
// and goes on when the database is back.
func TestLost(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	host, rest, _ := strings.Cut(s.cfg.dsn, " ")
	db := newLine(t, filepath.Join(strings.TrimPrefix(host, "host="), ".s.PGSQL.5432"))
	s.cfg.dsn = "host=" + db.dir + " " + rest
	s.cfg.leases = leaseTimes{life: 3 * time.Second, trust: 500 * time.Millisecond, beat: 50 * time.Millisecond}
	s.cfg.listen = "127.0.0.1:0"
	out := new(safeBuffer)
	s.cfg.log, _ = newLog(out, "text", slog.LevelInfo)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, s.cfg) }()
	for deadline := time.Now().Add(time.Minute); s.base == ""; time.Sleep(10 * time.Millisecond) {
		if found := listeningURL.FindStringSubmatch(out.String()); found != nil {
			s.base = found[1]
		} else if time.Now().After(deadline) {
			t.Fatalf("it does not listen:\n%s", out)
		}
	}
	for _, phone := range []string{s.a, s.b} {
		s.waitState(t, accountState{Account: phone, Linked: true, Connected: true})
	}
	logins := s.phones[s.a].Logins()
	db.cut(true)
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s:\n%s", what, out)
			}
		}
	}
	until("it does not say that it has lost its leases", func() bool {
		resp, err := http.Get(s.base + "/accounts")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
	})
	const allLost = "The leases of all accounts are lost"
	until("it does not stop its clients", func() bool { return strings.Contains(out.String(), allLost) })
	if before, _, _ := strings.Cut(out.String(), allLost); strings.Contains(before, "it is tried again") {
		t.Errorf("it notices only when the database has not answered for long:\n%s", before)
	}
	for path, want := range map[string]int{"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable} {
		if got := status(t, s.base+path); got != want {
			t.Errorf("%s: got %d", path, got)
		}
	}
	if n := s.phones[s.a].Logins(); n != logins {
		t.Errorf("it has logged in without a lease, %d times", n-logins)
	}
	db.cut(false)
	until("it does not go on", func() bool { return status(t, s.base+"/readyz") == http.StatusOK })
	for _, phone := range []string{s.a, s.b} {
		s.waitState(t, accountState{Account: phone, Linked: true, Connected: true})
	}
	resp, err := http.Get(s.base + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || bytes.Contains(text, []byte("gateway_leases_lost_total 0\n")) {
		t.Errorf("it does not count: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
