package engine

import (
	"reflect"
	"slices"
	"testing"

	"github.com/cove-engine/cove"
)

func TestParseNetDev(t *testing.T) {
	got := parseNetDev([]byte("Inter-|   Receive  | Transmit\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\neth1:5 1 0 0 0 0 0 0 7 2 0 0 0 0 0 0\n"))
	want := map[string]InterfaceStats{"eth0": {RxBytes: 100, RxPackets: 1, TxBytes: 200, TxPackets: 2}, "eth1": {RxBytes: 5, RxPackets: 1, TxBytes: 7, TxPackets: 2}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("interfaces %v", got)
	}
}

func TestTopAndStatsOfEnded(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	_, err := e.Top(t.Context(), "a", nil)
	wantKind(t, err, cove.WrongStatus, "top can only be used on running containers")
	list, err := e.Stats(t.Context(), []string{"a"}, false)
	if err != nil || len(list) != 1 || list[0].ID != c.ID || list[0].MemUsage != 0 || list[0].SystemNano == 0 {
		t.Errorf("stats %+v, %v", list, err)
	}
	for all, want := range map[bool]int{false: 0, true: 1} {
		if list, err := e.Stats(t.Context(), nil, all); err != nil || len(list) != want {
			t.Errorf("all %v: %d, %v", all, len(list), err)
		}
	}
	if !slices.ContainsFunc(cpuTicks(), func(n uint64) bool { return n > 0 }) {
		t.Error("no time has passed since boot")
	}
}
