"""What runs beside the mail: the bus, the timetable, the audit log, meters."""
