package library

import (
	"os"
	"strings"

	"github.com/sirupsen/logrus"
	"go.podman.io/storage/pkg/reexec"
)

// Reexec must be the first thing main does in every program that imports this
// package: the storage library unpacks and packs layers in a chrooted child
// that is the same program called under another name (argv[0]). It reports
// whether this process was such a child and has done its work; main returns
// at once then. In any other process it costs one map look-up.
func Reexec() bool {
	if strings.HasPrefix(os.Args[0], "storage-") {
		LogLevel("error") // all that the child says becomes the text of its error
	}
	return reexec.Init()
}

// LogLevel says from which level on the libraries' messages are shown; one that
// they do not know changes nothing.
func LogLevel(name string) {
	if level, err := logrus.ParseLevel(name); err == nil {
		logrus.SetLevel(level)
	}
}
