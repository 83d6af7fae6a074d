package procfs

import "testing"

func TestIDMap(t *testing.T) {
	ranges := ParseIDMap([]byte("         0     100000      65536\n     70000       5000          2\n"))
	for host, want := range map[uint32]uint32{100000: 0, 100999: 999, 5001: 70001, 0: 65534, 165536: 65534} {
		if got := ranges.ToInside(host); got != want {
			t.Errorf("ID %d: %d, want %d", host, got, want)
		}
	}
	for inside, want := range map[uint32]uint32{0: 100000, 70001: 5001, 65536: 65536} {
		if got := ranges.ToOutside(inside); got != want {
			t.Errorf("ID %d inside: %d, want %d", inside, got, want)
		}
	}
}
