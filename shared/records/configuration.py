"""configuration: the operators' files, whole, and who changed them, for those who take their configuration from mail.control."""

from shared.records.codec import Natural, Record


class Configuration(
    Record, frozen=True, kw_only=True, omit_defaults=True, tag_field="k", tag="configuration"
):
    """Put the files in force; whoever reads a newer one goes by that."""

    #: A hash of the files.
    fingerprint: str
    #: Name -> text. Relative paths in it start from the folder of each reader's own configuration.
    files: dict[str, str]
    author: str
    reason: str
    #: When it was published, by the publisher's clock.
    wall_ns: Natural
