package library

import (
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
)

// What a registry says reaches a terminal without what that would obey.
func TestLoggedVisible(t *testing.T) {
	c := &complaints{Formatter: &logrus.TextFormatter{ForceColors: true}}
	text, err := c.Format(&logrus.Entry{Logger: logrus.New(), Level: logrus.WarnLevel, Message: "a\x1b]0;own\x07\nline\n"})
	if err != nil || !strings.Contains(string(text), `a\x1b]0;own\x07\x0aline`) {
		t.Errorf("%q, %v", text, err)
	}
}
