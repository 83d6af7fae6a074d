package native

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRemoveEmpty(t *testing.T) {
	l := newLab(t)
	remove := func() { l.in(l.host, func() error { return Driver{}.RemoveEmpty(t.Context()) }) }
	tables := func(want bool) {
		t.Helper()
		if has := strings.Contains(l.sh(l.host, "nft", "list", "tables"), "cove"); has != want {
			t.Errorf("there is a table: %v", has)
		}
	}
	remove() // of nothing
	n := bridgeNet(0)
	l.container(nil, joined(n, 0, "eth0"))
	remove()
	tables(true)
	l.in(l.host, func() error { return Driver{}.RemoveNetwork(t.Context(), n) })
	tables(true)
	// Somebody has changed rules since it was looked at.
	l.in(l.host, func() error {
		f, err := openFirewall()
		if err != nil {
			return err
		}
		defer f.shut()
		seen, err := f.generation()
		if err != nil {
			return err
		}
		l.sh(l.host, "nft", "add", "table", "inet", "other")
		if err := f.dropTable(seen); !errors.Is(err, unix.ERESTART) {
			t.Errorf("of an older generation: %v", err)
		}
		return nil
	})
	tables(true)
	remove()
	tables(false)
	// And a start makes it again.
	l.container(nil, joined(n, 1, "eth0"))
	tables(true)
}
