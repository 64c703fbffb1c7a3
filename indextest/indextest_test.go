package indextest_test

import (
	"os"
	"runtime/debug"
	"testing"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/indextest"
)

// TestMain lets more garbage gather: what is left of a hundred indexes is much of what the tests
// cost.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

func TestMemoryIndex(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return reupload.NewMemoryIndex(0) })
}

// An index that is full from the start has grown into all of its chunks.
func TestMemoryIndexThatIsJustLargeEnough(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return reupload.NewMemoryIndex(6100) })
}

// What the wrong indexes are made of is right.
func TestNaiveIndex(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return newNaive() })
}

// An index that returns no more than it must is right as well.
func TestLimitedIndex(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return limitedIndex(func(_, _ *limits) {})() })
}

func TestWrongIndexesFail(t *testing.T) {
	t.Parallel()
	for _, wrong := range []map[string]func() reupload.Index{wrongEntries, wrongCalls, wrongLimits, wrongCameWith, wrongFuture} {
		for name, open := range wrong {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test, why := indextest.Failure(t, open)
				if test == "" {
					t.Error("the index passes")
				}
				t.Logf("%s: %.200s", test, why)
			})
		}
	}
}

// A wrong index is found by what is asked of it. This is how much that is, for nothing to get lost.
func TestWorkload(t *testing.T) {
	t.Parallel()
	got := indextest.Workloads(t)
	for name, want := range map[string]indextest.Workload{ // Puts, Entries, Timed, IDs, Looks
		"Accounts":               {124, 289, 289, 8, 168},
		"AnswersAreTheCallers":   {1, 1, 1, 1, 6},
		"AskedIsTheLatest":       {194, 363, 362, 123, 242},
		"CameWithIsTheFirst":     {49, 84, 84, 35, 73},
		"CancelledContext":       {3, 3, 3, 3, 6},
		"ChatsShareAFile":        {14, 375, 189, 375, 6},
		"Concurrency":            {120, 1320, 1320, 130, 480},
		"EntriesAreCopied":       {1, 3, 3, 3, 6},
		"FutureIsNothing":        {41, 76, 76, 28, 52},
		"Identity":               {26, 34, 17, 4, 34},
		"JIDs":                   {48, 48, 48, 48, 96},
		"LargeBatch":             {2, 9152, 9152, 6100, 6972},
		"ManyOfOneMessage":       {7, 250, 210, 2, 130},
		"MessageIDs":             {31, 60, 60, 30, 120},
		"NewestFirst":            {8, 8, 7, 1, 6},
		"NoUpdateIsLost":         {200, 200, 40, 40, 80},
		"NothingPushesQuotesOut": {5, 128, 120, 128, 10},
		"OldestStays":            {94, 294, 287, 294, 21},
		"OneAfterTheOther":       {120, 338, 241, 4, 1384},
		"PathIsTheLast":          {201, 377, 287, 128, 252},
		"Paths":                  {7, 7, 7, 7, 14},
		"PutAndGet":              {3, 4, 3, 4, 8},
		"QuotesShareAMessageID":  {3, 524, 224, 1, 1},
		"SendersShareAMessageID": {6, 1357, 1337, 3, 3},
		"StatusComesWithTheTime": {66, 122, 104, 43, 82},
		"TimeIsFoundOut":         {64, 120, 90, 42, 80},
		"TimelessPushNothingOut": {52, 62, 12, 62, 1},
		"Unknown":                {2, 1, 1, 1, 10},
		"WholeSeconds":           {3, 3, 3, 1, 6},
		"WithoutFile":            {3, 4, 4, 1, 7},
	} {
		if got[name] != want {
			t.Errorf("%s asks %+v, not %+v", name, got[name], want)
		}
		delete(got, name)
	}
	for name, w := range got {
		t.Errorf("%s is not in the table, and asks %+v", name, w)
	}
}
