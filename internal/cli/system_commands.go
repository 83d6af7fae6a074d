package cli

// systemCommands is `cove system`, and events, info and version beside it.
func systemCommands() []entry {
	events := entry{name: "events", short: "Show cove system events", build: eventsCommand}
	info := entry{name: "info", short: "Display cove system information", build: infoCommand}
	return []entry{
		events, info,
		{name: "unshare", short: "Run a command in a modified user namespace", build: unshareCommand},
		{name: "version", short: "Display the cove version information", build: versionCommand},
		group("system", "Manage cove", func() []entry {
			return append([]entry{
				{name: "check", short: "Compare records with reality", build: systemCheckCommand},
				{name: "df", short: "Show cove disk usage", build: systemDfCommand},
				events, info,
				{name: "migrate", short: "Move the records to another back end or layout", build: systemMigrateCommand},
				{name: "prune", short: "Remove unused data", build: systemPruneCommand},
				{name: "renumber", short: "Make the locks anew", build: systemRenumberCommand},
				{name: "reset", short: "Remove everything of cove's", build: systemResetCommand},
			}, notYet("connection", "dial-stdio", "service")...)
		}),
	}
}
