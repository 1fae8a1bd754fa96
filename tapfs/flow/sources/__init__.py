"""Sources: data that is read chunk by chunk, with a cursor, so that a step over it can stop and go on exactly.

Owns the protocol every source follows (`Source`) and the sources that come with tapfs (`CsvFile`). Any class with the
protocol's five names is a source; it needs no registration.
"""

from tapfs.flow.sources.csvfile import CsvFile
from tapfs.flow.sources.source import Json, Source, SourceChanged, SourceError, check_same

__all__ = ["CsvFile", "Json", "Source", "SourceChanged", "SourceError", "check_same"]
