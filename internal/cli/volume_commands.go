package cli

// volumeCommands is `cove volume`.
func volumeCommands() []entry {
	return []entry{group("volume", "Manage volumes", func() []entry {
		return append([]entry{
			{name: "create", short: "Create a new volume", build: volumeCreateCommand},
			{name: "exists", short: "Check if volume exists", build: volumeExistsCommand},
			{name: "export", short: "Export volumes", build: volumeExportCommand},
			{name: "import", short: "Import a tarball contents into a volume", build: volumeImportCommand},
			{name: "inspect", short: "Display detailed information on one or more volumes", build: volumeInspectCommand},
			{name: "ls", aliases: []string{"list"}, short: "List volumes", build: volumeListCommand},
			{name: "mount", short: "Tell where volumes are", build: volumeMountCommand},
			{name: "prune", short: "Remove all unused volumes", build: volumePruneCommand},
			{name: "reload", short: "Reload all volumes from volume plugins", build: volumeReloadCommand},
			{name: "rm", aliases: []string{"remove"}, short: "Remove one or more volumes", build: volumeRemoveCommand},
			{name: "unmount", aliases: []string{"umount"}, short: "Say that volumes' places are not used any more", build: volumeUnmountCommand},
		}, notYet("rename", "update")...)
	})}
}
