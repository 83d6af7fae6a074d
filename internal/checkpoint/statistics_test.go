package checkpoint

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"testing"
)

// message is a file of statistics whose message has this content.
func message(content ...byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, serviceMagic)
	b = binary.LittleEndian.AppendUint32(b, statisticsMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(content)))
	return append(b, content...)
}

// dump has freezing_time 300 and pages_written 0, and a field that is not shown.
var dump = message(0x0a, 7, 0x08, 0xac, 0x02, 0x30, 1, 0x38, 0)

func TestParseStatistics(t *testing.T) {
	s, err := parseStatistics(dump)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if want := `{"freezing_time":300}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v; want %s", text, err, want)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "magic": bytes.Repeat([]byte{1}, 40), "length": dump[:len(dump)-1],
		"kind": message(0x1a, 0), "wire type": message(0x0d, 1, 2, 3, 4), "inner length": message(0x0a, 9, 1),
	} {
		if _, err := parseStatistics(bad); !errors.Is(err, errStatistics) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzStatistics(f *testing.F) {
	f.Add(dump)
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = parseStatistics(data) })
}
