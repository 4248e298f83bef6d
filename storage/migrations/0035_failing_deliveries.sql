-- What went wrong last, which admins are shown: without an index it read all mails and pushes of a week.
create index deliveries_failing on deliveries (created_at) where error <> '' and sent_at is null;
