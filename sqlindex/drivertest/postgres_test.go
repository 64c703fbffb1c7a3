package drivertest

import (
	"bytes"
	"cmp"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"

	"go.mau.fi/whatsmeow/types"

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

// newPostgres creates an empty database and returns its connection string. It skips the test where
// there is no server, except in CI.
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
	// Not t.TempDir, which belongs to one test. The path of a socket may have a hundred characters
	// only.
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
	// The settings are the defaults, except that there is room for parallel tests, and that only
	// benchmarks wait for the disk.
	args := []string{"-D", data, "-k", s.dir, "-h", "", "-p", "5432", "-c", "max_connections=300"}
	if flag.Lookup("test.bench").Value.String() == "" {
		args = append(args, "-c", "fsync=off")
	}
	var output bytes.Buffer
	s.process = exec.Command(filepath.Join(bin, "postgres"), args...)
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
		"pgx":          {"pgx", "pgx", ""},
		"Simple":       {"pgx", "postgres", " default_query_exec_mode=simple_protocol"}, // as behind a pooler
		"Serializable": {"pgx", "pgx", " default_transaction_isolation=serializable"},
		"pq":           {"postgres", "postgres", ""},
		"Binary":       {"postgres", "postgres", " binary_parameters=yes"}, // as behind a pooler
	} {
		if raceDetector && c.options != "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := newPostgres(t)
			admin := openDB(t, "pgx", dsn)
			var schemas atomic.Int64 // which take less time than databases
			indextest.Run(t, func(t *testing.T) reupload.Index {
				schema := fmt.Sprintf("test%d", schemas.Add(1))
				if _, err := admin.ExecContext(t.Context(), "CREATE SCHEMA "+schema); err != nil {
					t.Fatal(err)
				}
				db := openDB(t, c.driver, dsn+" search_path="+schema+c.options)
				db.SetMaxOpenConns(10)
				db.SetMaxIdleConns(10)
				return newIndex(t, db, c.dialect)
			})
		})
	}
}

// An old pooler in transaction mode gives each transaction another connection, which does not have
// the statements that were prepared on the one before.
func TestStatementsThatAreForgotten(t *testing.T) {
	t.Parallel()
	for options, works := range map[string]bool{"": false, " default_query_exec_mode=simple_protocol": true} {
		db := openDB(t, "pgx", newPostgres(t)+options)
		db.SetMaxOpenConns(1)
		index := newIndex(t, db, "pgx")
		put(t, index, media(1))
		if _, err := db.Exec("DEALLOCATE ALL"); err != nil {
			t.Fatal(err)
		}
		err := index.Put(t.Context(), account, mediaBatch(1, 1))
		if works && err != nil || !works && (err == nil || !strings.Contains(err.Error(), "default_query_exec_mode=simple_protocol")) {
			t.Errorf("with%q: %v", options, err)
		}
	}
}

// Conflicts with other transactions, as the database finds them when it serializes them or when
// they wait for each other in a circle, do not reach the caller.
func TestConflictsAreTriedAgain(t *testing.T) {
	t.Parallel()
	const conflicts = 3
	for driver, state := range map[string]string{"pgx": "40001", "postgres": "40P01"} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			db := openDB(t, driver, newPostgres(t))
			index := newIndex(t, db, driver)
			put(t, index, media(0))
			exec := func(statements string) {
				t.Helper()
				if _, err := db.ExecContext(t.Context(), statements); err != nil {
					t.Fatal(err)
				}
			}
			// What a sequence has given stays given when the transaction fails.
			exec(fmt.Sprintf(`
CREATE SEQUENCE tries;
CREATE FUNCTION try() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
	IF nextval('tries') <= %d THEN RAISE 'conflict' USING ERRCODE = '%s'; END IF;
	RETURN true;
END $$;
CREATE FUNCTION try_first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM try(); RETURN NULL; END $$`, conflicts, state))
			for _, c := range []struct {
				name, conflict string
				call           func() error
			}{
				{"a new account", "CREATE TRIGGER t1 BEFORE INSERT ON reupload_account EXECUTE FUNCTION try_first()", func() error {
					return index.Put(t.Context(), types.NewJID("491700000009", types.DefaultUserServer), mediaBatch(0, 1))
				}},
				{"an entry", "CREATE TRIGGER t2 BEFORE INSERT ON reupload_media EXECUTE FUNCTION try_first()", func() error {
					return index.Put(t.Context(), account, mediaBatch(1, 1))
				}},
				{"a batch", "", func() error { return index.Put(t.Context(), account, mediaBatch(2, 100)) }},
				{"its commit", "DROP TRIGGER t2 ON reupload_media; CREATE CONSTRAINT TRIGGER t3 AFTER INSERT ON reupload_media " +
					"DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION try_first()", func() error {
					return index.Put(t.Context(), account, mediaBatch(102, 100))
				}},
				{"pruning", "CREATE TRIGGER t4 BEFORE DELETE ON reupload_media EXECUTE FUNCTION try_first()", func() error {
					index.SetRetention(0, 50)
					n, err := index.Prune(t.Context())
					if err == nil && n == 0 {
						err = errors.New("nothing was pruned")
					}
					return err
				}},
				{"a file", "ALTER TABLE reupload_media RENAME TO media; CREATE VIEW reupload_media AS SELECT * FROM media WHERE (SELECT try())", func() error {
					_, err := index.ByFile(t.Context(), account, media(201).FileEncSHA256)
					return err
				}},
				{"a message", "", func() error {
					_, err := index.ByMessage(t.Context(), account, media(201).MessageID)
					return err
				}},
			} {
				exec(c.conflict + "; ALTER SEQUENCE tries RESTART")
				if err := c.call(); err != nil {
					t.Errorf("%s: %v", c.name, err)
				}
				var tries int
				if err := db.QueryRow("SELECT last_value FROM tries").Scan(&tries); err != nil || tries <= conflicts {
					t.Errorf("%s was tried %d times, %v", c.name, tries, err)
				}
			}
		})
	}
}
