package engine

import (
	"reflect"
	"testing"
)

func TestPsRows(t *testing.T) {
	rows := psRows("PID CMD\n  1 sleep 10 20\n 12 sh\n")
	if want := [][]string{{"PID", "CMD"}, {"1", "sleep 10 20"}, {"12", "sh"}}; !reflect.DeepEqual(rows, want) {
		t.Errorf("ps %q", rows)
	}
}
