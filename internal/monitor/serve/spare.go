package serve

import (
	"os"
	"strings"
)

const ownScore = "/proc/self/oom_score_adj"

// spare keeps the kernel from ending this process when the machine's memory runs
// out: the container would die with it, and it has next to nothing to give. Who
// may not have that, an ordinary user, goes without.
func (m *Monitor) spare() {
	score, err := os.ReadFile(ownScore)
	if err == nil && writeFile(ownScore, []byte("-1000")) == nil {
		m.score = strings.TrimSpace(string(score))
	}
}

// unspared gives that up before a fork: a child is born with its parent's score,
// and none of ours is to be spared.
func (m *Monitor) unspared() error {
	if m.score == "" {
		return nil
	}
	return writeFile(ownScore, []byte(m.score))
}

// forked takes it back, once no more hooks follow the one that runs.
func (m *Monitor) forked() {
	if m.score != "" && m.hook == nil {
		_ = writeFile(ownScore, []byte("-1000"))
	}
}
