package signal

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]unix.Signal{
		"9": 9, "kill": 9, "SIGKILL": 9, "sigTerm": 15, "64": 64, "33": 33,
		"RTMIN": 34, "SIGRTMIN+3": 37, "rtmin+30": 64, "RTMAX": 64, "SIGRTMAX-1": 63, "RTMAX-30": 34,
		"": 0, "0": 0, "-9": 0, "65": 0, "SIG": 0, "9x": 0, "NOSUCH": 0, "SIGSIGKILL": 0,
		"RTMIN+31": 0, "RTMAX+1": 0, "RTMIN-1": 0, "RTMIN3": 0, "RTMINx": 0, "RTMIN+": 0,
	} {
		s, ok := Parse(text)
		if ok != (want != 0) || ok && s != want {
			t.Errorf("%q: %d, %t, want %d", text, s, ok, want)
		}
	}
}

func TestName(t *testing.T) {
	for s, want := range map[unix.Signal]string{15: "SIGTERM", 33: "33", 34: "SIGRTMIN", 37: "SIGRTMIN+3", 64: "SIGRTMIN+30", 65: "65"} {
		if got := Name(s); got != want {
			t.Errorf("%d: %s, want %s", s, got, want)
		}
		if back, ok := Parse(Name(s)); s <= 64 && (!ok || back != s) {
			t.Errorf("%d is read as %d", s, back)
		}
	}
}
