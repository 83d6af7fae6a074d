package sqlite

import (
	"bytes"

	"github.com/ncruces/go-sqlite3"

	"github.com/cove-engine/cove/internal/state"
)

// rows are state.Rows over one transaction.
type rows struct {
	c      *conn
	write  bool
	writes int // counts changes: what was read ahead is stale after one
}

// row is a key and its value, copied out of SQLite's memory.
type row struct {
	key   string
	value []byte
}

// statement prepares one, once.
func (c *conn) statement(text string) (*sqlite3.Stmt, error) {
	if s := c.stmts[text]; s != nil {
		return s, nil
	}
	s, _, err := c.db.Prepare(text)
	if err != nil {
		return nil, err
	}
	if c.stmts == nil {
		c.stmts = map[string]*sqlite3.Stmt{}
	}
	c.stmts[text] = s
	return s, nil
}

// query runs a statement, the table's name between its two halves, and gives
// its rows.
func (r *rows) query(sql [2]string, t state.Table, args ...any) (found []row, err error) {
	err = r.c.guard(func() error {
		s, err := r.c.statement(sql[0] + ` "` + string(t) + `" ` + sql[1])
		if err != nil {
			return err
		}
		for i, a := range args {
			switch a := a.(type) {
			case []byte:
				err = s.BindBlob(i+1, a)
			case int:
				err = s.BindInt(i+1, a)
			}
			if err != nil {
				return err
			}
		}
		for s.Step() {
			found = append(found, row{string(s.ColumnRawBlob(0)), bytes.Clone(s.ColumnRawBlob(1))})
		}
		if err := s.Err(); err != nil {
			return err
		}
		return s.Reset()
	})
	return found, err
}

func (r *rows) Get(t state.Table, key string) ([]byte, error) {
	if key == "" {
		return nil, nil
	}
	found, err := r.query([2]string{"SELECT key, value FROM", "WHERE key = ?"}, t, []byte(key))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return some(found[0].value), nil
}

// some tells an empty value from none.
func some(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

func (r *rows) Put(t state.Table, key string, value []byte) error {
	if !r.write {
		return state.ReadOnly()
	}
	r.writes++
	_, err := r.query([2]string{"INSERT INTO", "VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"}, t, []byte(key), some(value))
	return err
}

func (r *rows) Delete(t state.Table, key string) error {
	if !r.write {
		return state.ReadOnly()
	}
	r.writes++
	_, err := r.query([2]string{"DELETE FROM", "WHERE key = ?"}, t, []byte(key))
	return err
}

func (r *rows) Ascend(t state.Table, from string, each func(string, []byte) (bool, error)) error {
	for ahead := 8; ; ahead = min(2*ahead, 256) {
		found, err := r.query([2]string{"SELECT key, value FROM", "WHERE key >= ? ORDER BY key LIMIT ?"}, t, []byte(from), ahead)
		if err != nil {
			return err
		}
		seen := r.writes
		for _, f := range found {
			if more, err := each(f.key, some(f.value)); err != nil || !more {
				return err
			}
			from = f.key + "\x00" // the least key above
			if seen != r.writes {
				break
			}
		}
		if seen == r.writes && len(found) < ahead {
			return nil
		}
	}
}

func (r *rows) Floor(t state.Table, key string) (string, []byte, bool, error) {
	found, err := r.query([2]string{"SELECT key, value FROM", "WHERE key <= ? ORDER BY key DESC LIMIT 1"}, t, []byte(key))
	if err != nil || len(found) == 0 {
		return "", nil, false, err
	}
	return found[0].key, some(found[0].value), true, nil
}
