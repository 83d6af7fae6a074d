package library

import (
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// complaints keeps back what the libraries log as errors while copies run: they log
// what goes wrong as they take back a copy that has failed, whose error is one line
// and tells why. It shows what a terminal would obey. With --log-level above the default everything is shown as it comes.
type complaints struct {
	logrus.Formatter
	mu     sync.Mutex
	copies int
	kept   []byte
}

// watched puts itself before the format of the process.
var watched = sync.OnceValue(func() *complaints {
	c := &complaints{Formatter: logrus.StandardLogger().Formatter}
	logrus.SetFormatter(c)
	return c
})

// Format writes nothing of what is kept back.
func (c *complaints) Format(e *logrus.Entry) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Message = visible(strings.TrimRight(e.Message, "\n")) // a registry's words may be in it
	text, err := c.Formatter.Format(e)
	if c.copies == 0 || e.Level != logrus.ErrorLevel || logrus.IsLevelEnabled(logrus.InfoLevel) {
		return text, err
	}
	c.kept = append(c.kept, text...)
	return nil, err
}

// keep begins to keep back; the function that it gives ends that, and shows what there
// is if the copy has not failed.
func (c *complaints) keep() (end func(failed error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.copies++
	return func(failed error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.copies--
		if failed == nil {
			_, _ = logrus.StandardLogger().Out.Write(c.kept)
		}
		c.kept = nil
	}
}
