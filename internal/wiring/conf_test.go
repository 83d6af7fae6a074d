package wiring

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/state/sqlite"
)

// configured is the configuration of new directories by a text of containers.conf's
// [engine].
func configured(t *testing.T, text string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "containers.conf")
	if err := os.WriteFile(file, []byte("[engine]\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONTAINERS_CONF", file)
	t.Setenv("CONTAINERS_STORAGE_CONF", os.DevNull)
	conf, err := config.Load(config.Overrides{GraphRoot: t.TempDir(), RunRoot: t.TempDir()})
	if err == nil {
		err = os.MkdirAll(conf.Locks(), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

// TestConfiguredLocks counts the locks that there are by lock_type and num_locks.
func TestConfiguredLocks(t *testing.T) {
	for text, want := range map[string]struct {
		table bool
		locks int // of three
	}{
		"":                                     {false, 3},
		"num_locks = 2\n":                      {false, 3},
		"lock_type = \"shm\"\n":                {true, 3},
		"lock_type = \"shm\"\nnum_locks = 2\n": {true, 2},
	} {
		conf := configured(t, text)
		m, err := locks(conf)
		if err != nil {
			t.Fatal(err)
		}
		taken := 0
		for _, id := range []string{"a", "b", "c"} {
			if l, err := m.Lock(t.Context(), lock.Container, id); err == nil {
				taken++
				defer l.Unlock()
			} else if !cove.Is(err, cove.Unavailable) {
				t.Error(err)
			}
		}
		if table := lock.Tabled(conf.Locks()); table != want.table || taken != want.locks {
			t.Errorf("%q: %d locks, in a table: %v", text, taken, table)
		}
	}
}

// TestConfiguredBackend finds the back end by database_backend, in the full build
// and in the one without SQLite.
func TestConfiguredBackend(t *testing.T) {
	full := errors.New("the full build")
	small := Build{Full: func(*config.Config) error { return full }}
	for text, want := range map[string]string{
		"": "boltdb", "database_backend = \"boltdb\"\n": "boltdb", "database_backend = \"sqlite\"\n": "sqlite",
	} {
		conf := configured(t, text)
		kept, err := Build{SQLite: sqlite.Open}.store(conf)
		if err != nil || kept.backend != want {
			t.Errorf("%q: %q, %v", text, kept.backend, err)
		}
		if _, err := small.store(conf); (err == full) != (want == "sqlite") {
			t.Errorf("%q in the small build: %v", text, err)
		}
	}
}
