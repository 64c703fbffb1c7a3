package drivertest

import (
	"bytes"
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/indextest"
)

// server is the PostgreSQL server that all tests share. The first one that needs it starts it.
var server postgresServer

type postgresServer struct {
	once      sync.Once
	err       error
	dir       string // holds the data and the socket; there is no TCP port
	process   *exec.Cmd
	databases atomic.Int64
}

var errNoPostgres = errors.New("no PostgreSQL server is installed: there is no initdb in PATH or in /usr/lib/postgresql/*/bin")

// newPostgres creates an empty database and returns its connection string. It skips the test where there is no server,
// except in CI.
func newPostgres(t testing.TB) string {
	t.Helper()
	server.once.Do(func() { server.err = server.start() })
	if errors.Is(server.err, errNoPostgres) && os.Getenv("CI") != "true" {
		t.Skip(server.err)
	}
	if server.err != nil {
		t.Fatal(server.err)
	}
	admin := openDB(t, "pgx", server.dsn("postgres"))
	name := fmt.Sprintf("test%d", server.databases.Add(1))
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name+" STRATEGY wal_log"); err != nil {
		t.Fatal(err)
	}
	return server.dsn(name)
}

func (s *postgresServer) dsn(database string) string {
	return fmt.Sprintf("host=%s port=5432 user=tester dbname=%s sslmode=disable", s.dir, database)
}

func findPostgres() (bin string, err error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return "", errNoPostgres
	}
	newest := slices.MaxFunc(found, func(a, b string) int { // 9.6 is older than 15
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	})
	return filepath.Dir(newest), nil
}

func (s *postgresServer) start() error {
	bin, err := findPostgres()
	if err != nil {
		return err
	}
	// Not t.TempDir, which belongs to one test. The path of a socket may have a hundred characters only.
	if s.dir, err = os.MkdirTemp("", "reupload-pg-"); err != nil {
		return err
	}
	attr := &syscall.SysProcAttr{}
	if os.Getuid() == 0 { // whom PostgreSQL refuses to serve
		if attr.Credential, err = unprivileged(); err != nil {
			return err
		}
		if err = os.Chown(s.dir, int(attr.Credential.Uid), int(attr.Credential.Gid)); err != nil {
			return err
		}
	}
	data := filepath.Join(s.dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = attr, s.dir
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, output)
	}
	killWithParent(attr) // if the tests do not get to stop it
	// The settings are the defaults but for the room that tests in parallel need.
	var output bytes.Buffer
	s.process = exec.Command(filepath.Join(bin, "postgres"), "-D", data, "-k", s.dir, "-h", "", "-p", "5432", "-c", "max_connections=300")
	s.process.SysProcAttr, s.process.Dir, s.process.Stderr = attr, s.dir, &output
	if err := s.process.Start(); err != nil {
		return err
	}
	db, err := sql.Open("pgx", s.dsn("postgres"))
	if err != nil {
		return err
	}
	defer db.Close()
	for range 300 {
		if err = db.Ping(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.stop()
	return fmt.Errorf("postgres does not answer: %w\n%s", err, output.Bytes())
}

// unprivileged returns the user that the server runs as if this is root.
func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
			gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(err1, err2)
		}
	}
	return nil, errors.New("PostgreSQL does not run as root, and there is no user postgres or nobody")
}

func (s *postgresServer) stop() {
	if s.process != nil {
		_ = s.process.Process.Signal(syscall.SIGQUIT) // at once; the data is not needed any more
		_ = s.process.Wait()
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ driver, dialect, options string }{
		"pgx":    {"pgx", "pgx", ""},
		"Simple": {"pgx", "postgres", " default_query_exec_mode=simple_protocol"}, // as behind a pooler
		"pq":     {"postgres", "postgres", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			indextest.Run(t, func(t *testing.T) reupload.Index {
				db := openDB(t, c.driver, newPostgres(t)+c.options)
				db.SetMaxOpenConns(10)
				return newIndex(t, db, c.dialect)
			})
		})
	}
}
