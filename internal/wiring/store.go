package wiring

import (
	"errors"
	"fmt"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/config"
	"github.com/cove-engine/cove/internal/engine"
	"github.com/cove-engine/cove/internal/state"
	"github.com/cove-engine/cove/internal/state/bolt"
	"github.com/cove-engine/cove/internal/state/memory"
	"github.com/cove-engine/cove/internal/state/migrate"
)

// kept is the store as it was found.
type kept struct {
	store   state.Store
	backend string
	migrate func() (engine.Migration, error)
}

// store finds the store.
func (b Build) store(conf *config.Config) (kept, error) {
	if b.Closed != nil {
		return kept{store: state.Unusable(b.Closed)}, nil
	}
	if b.Memory != nil {
		return inMemory(b.Memory, conf)
	}
	return b.onDisk(conf)
}

// onDisk finds the store where its file is, else where the configuration wants
// it, bolt by default.
func (b Build) onDisk(conf *config.Config) (kept, error) {
	want := conf.File.Engine.DBBackend
	inBolt := migrate.Place{Name: "boltdb", File: bolt.Open(conf.BoltFile(), 0)}
	if b.SQLite == nil {
		there, err := migrate.There(conf.SQLiteFile())
		if err != nil {
			return kept{}, err
		}
		if there || want == "sqlite" {
			return kept{}, b.Full(conf)
		}
		return in(inBolt, "sqlite", conf.SQLiteFile()), nil
	}
	inSQLite := migrate.Place{Name: "sqlite", File: b.SQLite(conf.SQLiteFile(), 0)}
	first, second := inBolt, inSQLite
	if want == inSQLite.Name {
		first, second = inSQLite, inBolt
	}
	here, err := migrate.Find(first, second)
	if err != nil {
		return kept{state.Unusable(err), "", func() (engine.Migration, error) { return engine.Migration{}, err }}, nil
	}
	if here.Name == first.Name {
		return in(first, second.Name, second.Path()), nil
	}
	if want == "" {
		return in(second, first.Name, first.Path()), nil
	}
	// Beginning with an empty store would be losing sight of this one.
	return kept{
		store: state.Unusable(cove.E("open state", here.Path(), cove.Invalid, fmt.Errorf(
			"the records are kept with %s, the configuration says %s: move them (cove --db-backend %s system migrate) or use --db-backend %s",
			here.Name, want, want, here.Name))),
		backend: here.Name,
		migrate: func() (engine.Migration, error) {
			n, err := migrate.Move(here, first)
			return engine.Migration{From: here.Name, To: first.Name, Records: n}, err
		},
	}, nil
}

// in is the store at a place, beside which there is no other.
func in(here migrate.Place, other, path string) kept {
	absent := func() error { return migrate.Elsewhere(other, path) }
	return kept{
		store:   state.In(here.File, state.Present(), absent),
		backend: here.Name,
		migrate: func() (engine.Migration, error) {
			there, err := migrate.There(here.Path())
			if err == nil && there {
				err = migrate.Lift(here)
			}
			return engine.Migration{}, err
		},
	}
}

// inMemory is a store beside which there is none on the disk: an engine with
// that one would take this one's containers for leftovers.
func inMemory(s *memory.Store, conf *config.Config) (kept, error) {
	for _, path := range []string{conf.BoltFile(), conf.SQLiteFile()} {
		if there, err := migrate.There(path); err != nil {
			return kept{}, err
		} else if there {
			return kept{}, cove.E("open state", path, cove.InUse, errors.New("there are records on this root: keep others in memory on a root of their own"))
		}
	}
	return kept{store: s, backend: "memory", migrate: func() (engine.Migration, error) {
		return engine.Migration{}, cove.E("migrate", "", cove.Unsupported, errors.New("records in memory cannot be moved"))
	}}, nil
}
