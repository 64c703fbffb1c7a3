package simulation

import (
	"os"
	"runtime"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if IsWorker() {
		Work()
		return
	}
	os.Exit(m.Run())
}

// fixedSeeds are worlds of all kinds.
var fixedSeeds = []uint64{1, 2, 3, 4, 5, 6}

// TestWorlds lives through a few worlds, and one that is new each day: what it finds can be found
// again by others.
func TestWorlds(t *testing.T) {
	fresh := uint64(time.Now().Unix() / (24 * 60 * 60))
	t.Logf("today's seed is %d", fresh)
	seeds := append([]uint64{fresh}, fixedSeeds...)
	without, err := ParseSet(testWithout)
	if err != nil {
		t.Fatal(err)
	}
	limits := Limits{Steps: testSteps, Without: without}
	farm := &Farm{
		Jobs:   runtime.NumCPU(),
		Limits: limits,
		Next: func() *uint64 {
			if len(seeds) == 0 {
				return nil
			}
			seed := &seeds[0]
			seeds = seeds[1:]
			return seed
		},
		Done: func(r *Report) {
			if v := r.Failed(); v != nil {
				t.Errorf("seed %d breaks rule %q: %s\n%s\nagain: %s", r.Seed, v.Rule, v.What, r.Choices, commandLine(r.Seed, limits))
			}
		},
	}
	farm.Run()
}

// Each rule notices what breaks it.
func TestOracle(t *testing.T) {
	for _, rule := range []string{"right-bytes", "no-worse", "heals", "secrets", "context", "hosts", "leftovers", "messages", "handler", "stands still", "policy", "names", "asks"} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			h := new(hand)
			defer h.dismiss()
			quiet, err := ParseSet("stranger:,cdn:,net:,index:,lookup:,phone:,bot:,op:kill,op:forget,op:restart,op:reregister,op:media-client")
			if err != nil {
				t.Fatal(err)
			}
			l := Limits{Without: quiet, Bots: 1, Steps: 120, Length: "short", Sabotage: rule}
			for seed := uint64(1); seed <= 3; seed++ { // a world in which it does not come to it is no proof
				r := h.do(order{Seed: seed, Limits: l, Still: 10 * time.Second})
				if v := r.Failed(); v != nil {
					if v.Rule != rule && !(rule == "heals" && v.Rule == "junk") {
						t.Errorf("seed %d breaks rule %q: %s", seed, v.Rule, v.What)
					}
					return
				}
			}
			t.Error("it is not noticed")
		})
	}
}
