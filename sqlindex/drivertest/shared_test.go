package drivertest

import (
	"context"
	"database/sql"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// each runs a test with every backend.
func each(t *testing.T, test func(*testing.T, backend)) {
	t.Parallel()
	for _, k := range backends {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

// Two processes are two handles here: an index keeps nothing of the tables in memory.
func TestProcessesShareWhatTheyKnow(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db1, dialect := k.open(t)
		first := newIndex(t, db1, dialect)
		second := newIndex(t, k.again(t, db1), dialect)
		put(t, first, media(1))
		found, err := second.ByMessage(t.Context(), account, media(1).MessageID)
		if err != nil || len(found) != 1 {
			t.Fatalf("ByMessage in the other process: %v, %v", found, err)
		}
		found[0].DirectPath = "/healed"
		put(t, second, found[0])
		found, err = first.ByFile(t.Context(), account, media(1).FileEncSHA256)
		if err != nil || len(found) != 1 || found[0].DirectPath != "/healed" {
			t.Fatalf("ByFile in the process that did not heal it: %v, %v", found, err)
		}
	})
}

// Each process puts in the same entries in another order, as processes do that serve devices
// of one account.
func TestOverlappingBatchesDoNotDeadlock(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		var wg sync.WaitGroup
		for range 4 {
			index := newIndex(t, k.again(t, db), dialect)
			index.SetRetention(0, 900) // and prunes what others are about to change
			wg.Go(func() {
				for range 10 {
					batch := mediaBatch(0, 1000)
					rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					err := index.Put(ctx, account, batch[:500])
					cancel()
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func TestProcessesStartAtOnce(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		var wg sync.WaitGroup
		for range 8 {
			other := k.again(t, db)
			wg.Go(func() {
				index, err := sqlindex.New(t.Context(), other, dialect)
				if err != nil {
					t.Error(err)
					return
				}
				if err = index.Put(t.Context(), account, []reupload.Entry{media(1)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestBesideWhatsmeowsStore(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		for _, indexFirst := range []bool{true, false} {
			db, dialect := k.open(t)
			container := sqlstore.NewWithDB(db, dialect, nil)
			var index *sqlindex.Index
			if indexFirst {
				index = newIndex(t, db, dialect)
			}
			if err := container.Upgrade(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !indexFirst {
				index = newIndex(t, db, dialect)
			}
			device := container.NewDevice()
			lid := types.NewJID("123456789012345", types.HiddenUserServer)
			put(t, index, media(1))
			if err := container.LIDMap.PutLIDMapping(t.Context(), lid, account); err != nil {
				t.Fatal(err)
			}
			if device.ID != nil {
				t.Fatal("a new device has an id")
			}
			newIndex(t, db, dialect) // as after a restart
			if err := container.Upgrade(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got, err := container.LIDMap.GetLIDForPN(t.Context(), account); err != nil || got != lid {
				t.Fatalf("whatsmeow's own data: %v, %v", got, err)
			}
			checkAll(t, index, 1, 2)
			assertOwnPrefix(t, db, dialect)
		}
	})
}

// assertOwnPrefix checks that every table is whatsmeow's or has the index's prefix.
func assertOwnPrefix(t *testing.T, db *sql.DB, dialect string) {
	t.Helper()
	query := "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE 'whatsmeow_%' AND name NOT LIKE 'reupload_%' AND name NOT LIKE 'sqlite_%' AND name NOT LIKE 'idx_whatsmeow_%'"
	if dialect != "sqlite" {
		query = "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' AND " +
			"relname NOT LIKE 'whatsmeow_%' AND relname NOT LIKE 'reupload_%' AND relname NOT LIKE 'idx_whatsmeow_%'"
	}
	var others int
	if err := db.QueryRow(query).Scan(&others); err != nil || others != 0 {
		t.Errorf("%d tables or indexes of somebody else, %v", others, err)
	}
}
