-- Whoever takes part in a course is told a quarter of an hour before a class of it begins.
create index classes_soon on classes (starts_at) where started_at is null and ended_at is null and cancelled_at is null;
insert into notification_kinds (kind, mail, push) values ('class.soon', true, true);
