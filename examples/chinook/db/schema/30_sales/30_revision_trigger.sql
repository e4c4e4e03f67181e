CREATE FUNCTION sales.raise_revision() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    NEW.revision := NEW.revision + 1;
    RETURN NEW;
END
$$;

CREATE TRIGGER customer_revision
    BEFORE INSERT OR UPDATE ON sales.customer
    FOR EACH ROW EXECUTE FUNCTION sales.raise_revision();
COMMENT ON TRIGGER customer_revision ON sales.customer IS 'Rows brought from the old database keep revision 0';
